"""asyncssh, client and server, unmodified."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import looped, others_end

asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")
LARGE = bytes(range(256)) * (1 << 14)


async def answer(process: Any) -> None:
    """The commands of the server."""
    if process.command == "echo":
        async for line in process.stdin:
            process.stdout.write(line)
        process.exit(0)
    elif process.command == "large":
        process.stdout.write(LARGE.decode("latin-1"))
        process.exit(3)
    elif process.command == "pid":
        done = await asyncio.create_subprocess_exec(
            *("sh", "-c", "echo out; echo err >&2; exit 4"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await done.communicate()
        process.stdout.write(out.decode())
        process.stderr.write(err.decode())
        process.exit(done.returncode)
    else:
        await process.stdin.read()


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *words: Any) -> bool:
        return True

    def server_requested(self, *words: Any) -> bool:
        return True


@contextlib.asynccontextmanager
async def serving(folder: pathlib.Path) -> AsyncIterator[Any]:
    """A connection to a server of this loop."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        Server,
        "127.0.0.1",
        0,
        server_host_keys=[key],
        process_factory=answer,
        encoding="latin-1",
        sftp_factory=lambda chan: asyncssh.SFTPServer(chan, chroot=os.fsencode(folder)),
    )
    async with server:
        connection = await asyncssh.connect(
            "127.0.0.1",
            server.get_port(),
            known_hosts=asyncssh.import_known_hosts(
                f"127.0.0.1 {key.export_public_key().decode()}"
            ),
            username="user",
            config=None,
            client_keys=None,
            agent_path=None,
        )
        async with connection:
            yield connection
    await others_end()


@looped
async def test_commands(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path) as ssh:
        lines = "".join(f"{i}\n" for i in range(5000))
        done = await ssh.run("echo", input=lines, check=True)
        assert done.stdout == lines
        done = await ssh.run("large", encoding="latin-1")
        assert (done.exit_status, done.stdout.encode("latin-1")) == (3, LARGE)
        done = await ssh.run("pid")
        assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 4)


@looped
async def test_many_at_once(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path) as ssh:
        runs = (ssh.run("echo", input=f"{i}\n") for i in range(8))
        done = await asyncio.gather(*runs)
        assert [one.stdout for one in done] == [f"{i}\n" for i in range(8)]


@looped
async def test_abandoned_command(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path) as ssh:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ssh.run("forever"), 0.05)
        assert (await ssh.run("echo", input="x\n")).stdout == "x\n"


@looped
async def test_files(tmp_path: pathlib.Path) -> None:
    root, here = tmp_path / "root", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    (here / "large").write_bytes(LARGE)
    async with serving(root) as ssh, ssh.start_sftp_client() as sftp:
        await sftp.put(here / "large", "/large")
        assert (root / "large").read_bytes() == LARGE
        await sftp.get("/large", here / "back")
        assert (here / "back").read_bytes() == LARGE
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.stat("/nothing")


@looped
async def test_forwarded_connections(tmp_path: pathlib.Path) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        writer.write(await reader.read())
        writer.close()

    target = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with target, serving(tmp_path) as ssh:
        port = target.sockets[0].getsockname()[1]
        async with ssh.forward_local_port("127.0.0.1", 0, "127.0.0.1", port) as near:
            reader, writer = await asyncio.open_connection("127.0.0.1", near.get_port())
            writer.write(LARGE)
            writer.write_eof()
            assert await reader.read() == LARGE
            writer.close()
            await writer.wait_closed()


@looped
async def test_connection_lost(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path) as ssh:
        waiting = asyncio.create_task(ssh.run("forever"))
        while not ssh._channels:
            await asyncio.sleep(0)
        ssh.abort()
        with pytest.raises(asyncssh.Error):
            await waiting

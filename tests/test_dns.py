"""getaddrinfo and getnameinfo: numeric hosts, results, errors, patched modules."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading

import pytest

from support import has_ipv6, only_asynccore

HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%lo",
    "fe80::1%1",
    "::ffff:1.2.3.4",
    "1::2:3",
    "127.1",
    "1",
    "0x7f.0.0.1",
    "127.0.0.01",
    "256.1.1.1",
    "[::1]",
    " 127.0.0.1",
    "127.0.0.1 ",
    "",
    None,
    b"127.0.0.1",
    b"::1",
    bytearray(b"127.0.0.1"),
    "localhost",
    "127.0.0.1\0",
    "1.2.3.4.5",
    "::1%",
    "::1%no-such-scope",
    "\u0661.1.1.1",
]  # fmt: skip
PORTS = [
    0,
    80,
    65535,
    65536,
    -1,
    10**30,
    "80",
    "http",
    "",
    None,
    b"80",
    b"http",
    1.5,
    True,
]


def outcome(call):
    try:
        return "returned", call()
    except Exception as exc:
        return type(exc), str(exc)


def compare(run, loop, *args, **kwargs):
    """The loop's result must be what the socket module gives for the same arguments."""
    # the standard loop passes all by position
    positional = [kwargs.get(name, 0) for name in ("family", "type", "proto", "flags")]
    expected = outcome(lambda: socket.getaddrinfo(*args, *positional))
    found = outcome(lambda: run(loop.getaddrinfo(*args, **kwargs)))
    assert found == expected, (args, kwargs)
    return expected[0]


@pytest.fixture
def run(loop):
    """Runs an awaitable, and at the end ends the threads."""
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_hosts(run, loop, host):
    compare(run, loop, host, 80)
    compare(run, loop, host, 80, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("port", PORTS, ids=repr)
def test_ports(run, loop, port):
    for host in ("127.0.0.1", "::1", None):
        compare(run, loop, host, port)


FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 12345]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 255]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("family", FAMILIES, ids=int)
def test_families_types_protocols(run, loop, host, family):
    results = [
        compare(run, loop, host, 80, family=family, type=kind, proto=proto)
        for kind, proto in itertools.product(TYPES, PROTOS)
    ]
    assert len(results) == len(TYPES) * len(PROTOS)


FLAGS = [
    socket.AI_PASSIVE,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_CANONNAME,
    socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED | socket.AI_ALL,
    0x40000000,
    -1,
]


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: hex(flags))
def test_flags(run, loop, flags):
    for host, port in itertools.product(
        ("127.0.0.1", "::1", "localhost", None), (80, "80", "http", None)
    ):
        compare(run, loop, host, port, flags=flags, type=socket.SOCK_STREAM)


def test_name_that_does_not_exist(run, loop):
    with pytest.raises(socket.gaierror):
        run(loop.getaddrinfo("no-such-host.invalid", 80))


def test_wrong_calls(run, loop):
    for args, kwargs in [
        ((), {}),
        (("127.0.0.1",), {}),
        (("127.0.0.1", 80, 0), {}),
        (("127.0.0.1", 80), {"unknown": 1}),
    ]:
        with pytest.raises(TypeError):
            run(loop.getaddrinfo(*args, **kwargs))


@pytest.mark.parametrize("host", [1, 1.5, object(), [], ("127.0.0.1",)], ids=repr)
def test_hosts_of_wrong_types(run, loop, host):
    assert compare(run, loop, host, 80) is not None


@pytest.mark.parametrize("name", ["family", "type", "proto", "flags"])
@pytest.mark.parametrize("wrong", ["x", None, 1.5, 2**40])
def test_numbers_of_wrong_types(run, loop, name, wrong):
    compare(run, loop, "127.0.0.1", 80, **{name: wrong})


def test_result_is_a_new_list(run, loop):
    first = run(loop.getaddrinfo("127.0.0.1", 80))
    second = run(loop.getaddrinfo("127.0.0.1", 80))
    assert first == second
    assert first is not second
    first.clear()
    assert run(loop.getaddrinfo("127.0.0.1", 80)) == second


def test_patched_getaddrinfo_is_asked(run, loop, monkeypatch):
    calls = []

    def getaddrinfo(*args):
        calls.append(args)
        return ["patched"]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert run(loop.getaddrinfo("127.0.0.1", 80)) == ["patched"]
    assert run(loop.getaddrinfo("name", "http", type=1, flags=2)) == ["patched"]
    assert calls == [("127.0.0.1", 80, 0, 0, 0, 0), ("name", "http", 0, 1, 0, 2)]


def test_names_are_looked_up_in_a_thread(run, loop, monkeypatch):
    threads = []

    def getaddrinfo(*args):
        threads.append(threading.get_ident())
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    run(loop.getaddrinfo("example.invalid", 80))
    assert threads[0] != threading.get_ident()


@only_asynccore
def test_numeric_host_takes_no_thread(run, loop):
    loop.set_debug(False)
    for host in ("127.0.0.1", "::1"):
        if ":" in host and not has_ipv6():
            continue
        run(loop.getaddrinfo(host, 80))
    assert loop._default_executor is None


def test_many_at_once(run, loop):
    async def main():
        return await asyncio.gather(
            *(loop.getaddrinfo("127.0.0.1", port) for port in range(50))
        )

    found = run(main())
    assert [infos[0][4][1] for infos in found] == list(range(50))


def test_look_up_does_not_block_the_loop(run, loop, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: release.wait(10))

    async def main():
        task = asyncio.create_task(loop.getaddrinfo("name", 80))
        await asyncio.sleep(0.001)
        assert not task.done()
        release.set()
        return await task

    assert run(main()) is True


def test_cancelled_look_up(run, loop, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: release.wait(10))

    async def main():
        task = asyncio.create_task(loop.getaddrinfo("name", 80))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    run(main())


NAMES = [
    (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("::1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1", 80), socket.NI_NUMERICHOST),
    (("127.0.0.1", 53), socket.NI_NUMERICHOST | socket.NI_DGRAM),
    (("localhost", 80), socket.NI_NUMERICHOST),
    (("127.0.0.1", "http"), 1),
    (("127.0.0.1",), 1),
    ((), 1),
    ("127.0.0.1", 1),
    (None, 1),
    (("127.0.0.1", 70000), 1),
    (("127.0.0.1", -1), 1),
    (("256.0.0.1", 80), 1),
]


@pytest.mark.parametrize(("address", "flags"), NAMES, ids=repr)
def test_getnameinfo(run, loop, address, flags):
    expected = outcome(lambda: socket.getnameinfo(address, flags))
    assert outcome(lambda: run(loop.getnameinfo(address, flags))) == expected


def test_getnameinfo_without_flags(run, loop, monkeypatch):
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
    assert run(loop.getnameinfo(("127.0.0.1", 80))) == (("127.0.0.1", 80), 0)


def test_after_close(loop_factory):
    loop = loop_factory()
    loop.close()
    other = loop_factory()
    coro = loop.getaddrinfo("name.invalid", 80)
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        other.run_until_complete(coro)
    other.close()


def test_port_that_equals_one_asked_for_before(run, loop):
    compare(run, loop, "127.0.0.1", 1)
    compare(run, loop, "127.0.0.1", True)
    compare(run, loop, "127.0.0.1", 0, type=True)
    compare(run, loop, "127.0.0.1", False)

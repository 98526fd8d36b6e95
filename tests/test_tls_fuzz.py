"""Mutated records and random segmentation: the outcome is the standard loop's."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from typing import Any

import pytest

from asynccore import _tls
from support import BufferedRecorder, Recorder, certificates, compare, settle
from support.tls import raw_peer

CASES = 40  # of each kind
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(params=_tls.MODES[:2])
def way(request: pytest.FixtureRequest) -> Any:
    former = _tls.mode()
    _tls.use(request.param)
    yield
    _tls.use(former)


HEADER = 5  # of a record: type, version, length


class Stream:
    """Cipher text that can be changed, with a mark at each byte that is not random."""

    def __init__(self, data: bytes = b"", known: bytes = b"") -> None:
        self.data = data
        self.known = known

    @classmethod
    def record(cls, data: bytes) -> Stream:
        return cls(data, b"\1" * HEADER + bytes(len(data) - HEADER))

    def __getitem__(self, where: slice) -> Stream:
        return Stream(self.data[where], self.known[where])

    def __add__(self, other: Stream) -> Stream:
        return Stream(self.data + other.data, self.known + other.known)

    def mutate(self, rest: random.Random) -> Stream:
        """A byte changed, bytes left out, put in, cut off, or two parts exchanged."""
        at = rest.randrange(len(self.data))
        size = rest.choice((1, 2, 5, 30))
        kind = rest.randrange(5)
        if kind == 0:
            changed = bytes([self.data[at] ^ 1 << rest.randrange(8)])
            return self[:at] + Stream(changed, self.known[at : at + 1]) + self[at + 1 :]
        if kind == 1:
            return self[:at] + self[at + size :]
        if kind == 2:
            return self[:at] + Stream(bytes(size), b"\1" * size) + self[at:]
        if kind == 3:
            return self[:at]
        return self[at:] + self[:at]

    def settled(self, rest: random.Random) -> bytes:
        """The bytes, with those that are read as a header no longer left to chance.

        Cipher text differs in each run. One in 256 times it begins like a record, and
        then the error is another one.
        """
        data = bytearray(self.data)
        at = 0
        while at < len(data):
            kind = rest.choice((23, 23, 22, 21, 77))
            chosen = kind, rest.choice((3, 3, 88)), rest.choice((3, 3, 9))
            for place, byte in enumerate((*chosen, *rest.randbytes(2)), at):
                if place < len(data) and not self.known[place]:
                    data[place] = byte
            at += HEADER + int.from_bytes(data[at + 3 : at + HEADER], "big")
        return bytes(data)


def what(exc: BaseException | None) -> Any:
    """The type and what the ssl module tells, without the numbers of lines."""
    if isinstance(exc, ssl.SSLError):
        return type(exc).__name__, exc.errno, exc.library, exc.reason
    return exc if exc is None else (type(exc).__name__, str(exc))


async def send(peer: Any, data: bytes, rest: random.Random) -> None:
    """In pieces, each of which is read on its own.

    What comes in one read with a broken record is lost, on every loop.
    """
    while data:
        size = rest.choice((1, 100, 1000, 20_000))
        with contextlib.suppress(ConnectionError):
            await peer.loop.sock_sendall(peer.sock, data[:size])
        await settle(1)
        data = data[size:]


def server_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = certificates().server_context()
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_mutated_records(both_factories: Any, way: None, version: Any) -> None:
    async def scenario(seed: int) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        rest = random.Random(seed)
        near: Any = rest.choice((Recorder, BufferedRecorder))()
        async with raw_peer(
            near, server_side=True, context=server_context(version)
        ) as peer:
            sizes = [rest.choice((1, 50, 5000, 16384)) for _ in range(4)]
            pieces = [Stream.record(peer.encrypt(rest.randbytes(n))) for n in sizes]
            pieces[rest.randrange(4)] = pieces[rest.randrange(4)].mutate(rest)
            await send(peer, sum(pieces, Stream()).settled(rest), rest)
            peer.sock.shutdown(socket.SHUT_WR)
            exc = await near.lost()
            result = bytes(near.received), what(exc), near.names()
            del exc
            near.calls.clear()
            near.note("connection_lost", None)
            return result

    for seed in range(CASES):
        compare(both_factories, lambda seed=seed: scenario(seed))


def test_mutated_handshakes(both_factories: Any, way: None) -> None:
    async def scenario(seed: int) -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        rest = random.Random(seed)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = certificates().client_context()
        # any bytes are a public key; 3.11.2 cannot name this group, its default
        with contextlib.suppress(ssl.SSLError):
            context.set_ecdh_curve("X25519")
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        # only what the server reads before it answers: its random is nobody's to know
        at = rest.choice((rest.randrange(9), rest.randrange(43, len(hello))))
        hello = hello[:at] + bytes([hello[at] ^ 1 << rest.randrange(8)])
        here, there = socket.socketpair()
        with here, there:
            there.setblocking(False)
            accepting = asyncio.ensure_future(
                loop.connect_accepted_socket(
                    Recorder, here, ssl=server_context(VERSIONS[1])
                )
            )
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(there, hello)
                there.shutdown(socket.SHUT_WR)
            try:
                await accepting
            except (ssl.SSLError, OSError) as exc:
                return what(exc)
            return "made"

    for seed in range(CASES):
        compare(both_factories, lambda seed=seed: scenario(seed))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_random_conversations(
    both_factories: Any, way: None, kind: Any, version: Any
) -> None:
    """Both directions at once, with pauses: every byte arrives in order."""

    async def scenario(seed: int) -> Any:
        rest = random.Random(seed)
        near: Any = kind()
        async with raw_peer(
            near, server_side=True, context=server_context(version)
        ) as peer:
            there, back = rest.randbytes(200_000), rest.randbytes(200_000)

            async def talk() -> None:
                left = back
                while left:
                    size = rest.choice((1, 100, 10_000, 60_000))
                    near.transport.write(left[:size])
                    left = left[size:]
                    if rest.random() < 0.3:
                        near.transport.pause_reading()
                    await asyncio.sleep(0)
                    near.transport.resume_reading()

            sent = b"".join(
                peer.encrypt(there[at : at + size])
                for size in [rest.choice((1000, 5000, 16384))]
                for at in range(0, len(there), size)
            )
            talking = asyncio.ensure_future(talk())
            sending = asyncio.ensure_future(send(peer, sent, rest))
            assert await peer.recv(len(back)) == back
            assert await near.got(len(there)) == there
            await talking
            await sending
        return None

    for seed in range(5):
        compare(both_factories, lambda seed=seed: scenario(seed))

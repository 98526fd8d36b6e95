"""write(), writelines() and flow control."""

from __future__ import annotations

import array
import asyncio
import gc
import socket
import sys
from typing import Any

import pytest

from support import (
    LINKS,
    PLAIN_LINKS,
    SIDES,
    WIRES,
    Recorder,
    compare,
    link,
    looped,
    only_asynccore,
    outcome,
    settle,
    wire,
)
from support.interpreter import WRITELINES_KNOW_THE_END

# --- what write takes ---

PAYLOADS: dict[str, Any] = {
    "bytes": b"abcd",
    "bytearray": bytearray(b"abcd"),
    "memoryview": memoryview(b"abcd"),
    "memoryview of a bytearray": memoryview(bytearray(b"xabcdx"))[1:5],
    "typed": memoryview(array.array("H", b"abcd")),
    "signed bytes": memoryview(b"abcd").cast("b"),
    "two dimensions": memoryview(b"abcd").cast("B", (2, 2)),
    "no dimension": memoryview(b"a").cast("B", ()),
    "bytes subclass": type("Sub", (bytes,), {})(b"abcd"),
}


@pytest.mark.parametrize("name", [n for n in PAYLOADS if n != "no dimension"])
@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_write_takes(kind: str, name: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        assert pair.near.write(PAYLOADS[name]) is None
        assert await pair.far_protocol.got(4) == b"abcd"


@pytest.mark.parametrize("name", ["bytes", "bytearray", "memoryview", "bytes subclass"])
@pytest.mark.parametrize("kind", ["tls", "tls_unix", "start_tls"])
@looped
async def test_write_takes_over_tls(kind: str, name: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        assert pair.near.write(PAYLOADS[name]) is None
        assert await pair.far_protocol.got(4) == b"abcd"


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")])
@looped
async def test_empty_write_sends_nothing(kind: str, empty: Any) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        pair.near.write(empty)
        pair.near.writelines([])
        pair.near.write(b"x")
        pair.near.write(empty)
        assert await pair.far_protocol.got(1) == b"x"
        assert pair.near.get_write_buffer_size() == 0


class Sized:
    """Neither bytes nor a buffer."""


@pytest.mark.parametrize("call", ["write", "writelines"])
@pytest.mark.parametrize(
    "data", ["text", 1, None, [b"a"], (b"a",), Sized(), array.array("b", b"ab")]
)
def test_type_errors_equal_the_standard_ones(
    both_factories: Any, call: str, data: Any
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            result = outcome(getattr(held.transport, call), data)
            # the connection survives
            usable = outcome(held.transport.write, b"after")
            await settle(1)
            return result, usable, held.peer.recv_now()

    compare(both_factories, scenario)


@pytest.mark.parametrize(
    "lines",
    [
        ["text"],
        [b"a", 1],
        b"bytes",
        bytearray(b"bytes"),
        [[b"nested"]],
        [b"", b"", b"x"],
        [bytearray(b"a"), memoryview(b"bc"), b"d"],
        (b"a", b"tuple"),
        {b"dict": 1},
    ],
    ids=repr,
)
def test_writelines_equals_the_standard_one(both_factories: Any, lines: Any) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            result = outcome(held.transport.writelines, lines)
            await settle(1)
            return result, held.peer.recv_now()

    compare(both_factories, scenario)


@pytest.mark.parametrize("method", ["write", "writelines", "set_protocol"])
def test_argument_errors_equal_the_standard_ones(
    both_factories: Any, method: str
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            call = getattr(held.transport, method)
            name, value = {
                "write": ("data", b"named"),
                "writelines": ("list_of_data", [b"named"]),
                "set_protocol": ("protocol", held.protocol),
            }[method]
            found = [
                outcome(call),
                outcome(call, b"a", b"b"),
                outcome(call, wrong=b"a"),
                outcome(call, value, **{name: value}),
                outcome(call, **{name: value}),
            ]
            await settle(1)
            texts = [
                (kind, str(text).rpartition("Transport.")[2]) for kind, text in found
            ]
            return texts, held.peer.recv_now()

    named = b"" if method == "set_protocol" else b"named"
    assert compare(both_factories, scenario)[1] == named


@looped
async def test_writelines_takes_an_iterator() -> None:
    async with wire(Recorder()) as held:
        held.transport.writelines(b"%d" % n for n in range(5))
        assert await held.peer.recv(5) == b"01234"


@looped
async def test_more_pieces_than_one_system_call_takes() -> None:
    # IOV_MAX is 1024 on Linux
    expected = b"".join(b"%05d" % n for n in range(5000))
    async with wire(Recorder()) as held:
        held.transport.writelines([b"%05d" % n for n in range(5000)])
        assert await held.peer.recv(len(expected)) == expected
        for number in range(5000):
            held.transport.write(b"%05d" % number)
        assert await held.peer.recv(len(expected)) == expected


@looped
async def test_many_pieces_queued_behind_a_full_kernel() -> None:
    async with wire(Recorder()) as held:
        head = held.fill()
        expected = b"".join(b"%05d" % n for n in range(5000))
        for number in range(5000):
            held.transport.write(b"%05d" % number)
        data = await held.peer.recv(head + len(expected))
        assert data[head:] == expected
        assert data.count(0, 0, head) == head


# --- what happens to the caller's buffer ---


# Since 3.12 the standard loop keeps a view of what it could not send: unsent data
# changes under the hand of a caller who reuses its buffer, and a bytearray cannot be
# resized. Here it is copied, as on 3.11.


@only_asynccore
@pytest.mark.parametrize("make", [bytearray, lambda size: memoryview(bytearray(size))])
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_mutation_after_write_does_no_harm(kind: str, make: Any) -> None:
    async with wire(Recorder(), kind) as held:
        data = make(1 << 16)
        written = 0
        while held.transport.get_write_buffer_size() < 1 << 18:
            data[:] = b"%08d" % (written >> 16) * (1 << 13)
            held.transport.write(data)
            data[:] = b"-" * (1 << 16)
            written += 1 << 16
        if isinstance(data, bytearray):
            data.extend(b"can be resized")
        received = await held.peer.recv(written)
        expected = [b"%08d" % n * (1 << 13) for n in range(written >> 16)]
        assert received == b"".join(expected)


@only_asynccore  # the standard transport of 3.12 and 3.13.0 does not pause
def test_writelines_that_must_wait_pauses(loop: Any) -> None:
    async def main() -> None:
        async with wire(Recorder(), "tcp") as held:
            held.transport.writelines([b"x" * (16 << 20)] * 2)
            held.transport.get_write_buffer_size()  # ends the cork
            assert held.protocol.count("pause_writing") == 1
            assert len(await held.peer.recv(32 << 20)) == 32 << 20
            await held.protocol.until(lambda: held.protocol.count("resume_writing"))

    loop.run_until_complete(main())


@only_asynccore
@looped
async def test_mutation_after_writelines_does_no_harm() -> None:
    async with wire(Recorder()) as held:
        head = held.fill()
        data = bytearray(b"kept")
        held.transport.writelines([data, memoryview(data)])
        data[:] = b"lost"
        data.extend(b"more")
        assert (await held.peer.recv(head + 8))[head:] == b"keptkept"


@looped
async def test_mutation_of_what_was_sent_at_once_does_no_harm() -> None:
    async with wire(Recorder()) as held:
        data = bytearray(b"first")
        held.transport.write(data)
        data[:] = b"other"
        data.clear()
        assert await held.peer.recv(5) == b"first"


@only_asynccore  # the standard loop ends the connection with a BufferError
@looped
async def test_non_contiguous_views() -> None:
    async with wire(Recorder()) as held:
        held.transport.write(memoryview(b"a-b-c-d-")[::2])
        held.transport.write(memoryview(b"dcba")[::-1])
        held.transport.writelines([b"ab", memoryview(b"cxd")[:1], b"d"])
        if sys.version_info >= (3, 12):  # 3.11 joins the pieces, which refuses it
            held.transport.writelines([memoryview(b"a-b-")[::2], b"cd"])
        else:
            held.transport.write(b"abcd")
        assert await held.peer.recv(16) == b"abcd" * 4
        head = held.fill()
        held.transport.write(memoryview(b"a-b-c-d-")[::2])
        assert (await held.peer.recv(head + 4))[head:] == b"abcd"


@looped
async def test_queued_bytes_are_released_when_sent() -> None:
    class Watched(bytes):
        pass

    async with wire(Recorder()) as held:
        head = held.fill()
        before = sys.getrefcount(held)
        data = Watched(b"x" * 100)
        count = sys.getrefcount(data)
        held.transport.write(data)
        await held.peer.recv(head + 100)
        await settle()
        assert held.transport.get_write_buffer_size() == 0
        assert sys.getrefcount(data) == count
        assert sys.getrefcount(held) == before


# --- flow control ---


def limits(transport: Any) -> tuple[int, int]:
    return transport.get_write_buffer_limits()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_default_limits(kind: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        tls = kind not in PLAIN_LINKS
        expected = (128 << 10, 512 << 10) if tls else (16 << 10, 64 << 10)
        assert limits(pair.near) == limits(pair.far) == expected


LIMITS: list[dict[str, Any]] = [
    {},
    {"high": 0},
    {"high": 10},
    {"low": 0},
    {"low": 10},
    {"high": 100, "low": 50},
    {"high": 100, "low": 100},
    {"high": 10, "low": 20},
    {"high": -1},
    {"low": -1},
    {"high": 10, "low": -1},
    {"high": 1 << 62},
    {"high": 1 << 70},
    {"low": 1 << 70},
    {"high": 10.5},
    {"high": 100.5, "low": 2.5},
    {"high": float("inf")},
    {"high": float("nan")},
    {"high": "10"},
    {"low": "10"},
    {"high": []},
    {"high": True},
    {"wrong": 1},
]


@pytest.mark.parametrize("given", LIMITS, ids=repr)
def test_limits_equal_the_standard_ones(
    both_factories: Any, given: dict[str, Any]
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            kind, text = outcome(held.transport.set_write_buffer_limits, **given)
            if "wrong" in given:  # the text names the function: not the same
                text = kind
            return kind, text, repr(limits(held.transport))

    compare(both_factories, scenario)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_pause_and_resume(kind: str, side: str) -> None:
    async with wire(Recorder(), kind, side) as held:
        transport, protocol = held.transport, held.protocol
        head = held.fill(1 << 12)
        kept = transport.get_write_buffer_size()
        assert protocol.count("pause_writing") == (kept > 64 << 10)
        transport.write(bytes((64 << 10) - kept))
        assert transport.get_write_buffer_size() == 64 << 10
        assert protocol.count("pause_writing") == 0  # not before it is above
        transport.write(b"x")
        assert protocol.count("pause_writing") == 1  # within write()
        transport.write(b"x")
        assert protocol.count("pause_writing") == 1
        assert protocol.count("resume_writing") == 0
        seen: list[int] = []
        protocol.hooks["resume_writing"] = lambda p: seen.append(
            transport.get_write_buffer_size()
        )
        total = head + (64 << 10) - kept + 2
        assert len(await held.peer.recv(total)) == total
        await protocol.until(lambda: seen)
        assert seen[0] <= 16 << 10
        assert protocol.names()[1:] == ["pause_writing", "resume_writing"]


def test_resume_comes_when_the_standard_loop_resumes(both_factories: Any) -> None:
    async def scenario() -> Any:
        async with wire(Recorder(), "pair") as held:
            transport, protocol = held.transport, held.protocol
            sizes: list[tuple[str, int]] = []
            for name in ("pause_writing", "resume_writing"):
                protocol.hooks[name] = lambda p, name=name: sizes.append(
                    (name, transport.get_write_buffer_size())
                )
            transport.set_write_buffer_limits(high=50_000, low=20_000)
            held.fill(10_000)
            while not protocol.count("pause_writing"):
                transport.write(bytes(10_000))
            while not protocol.count("resume_writing"):
                held.peer.recv_now(30_000)
                await settle(1)
                sizes.append(("settled", transport.get_write_buffer_size()))
            return sizes

    compare(both_factories, scenario)


@looped
async def test_lower_limits_pause_at_once() -> None:
    async with wire(Recorder()) as held:
        held.fill(1000)
        assert held.protocol.count("pause_writing") == 0
        held.transport.set_write_buffer_limits(high=0)
        assert held.protocol.count("pause_writing") == 1
        held.transport.set_write_buffer_limits(high=1 << 30)
        assert held.protocol.count("resume_writing") == 0  # only progress resumes


@looped
async def test_high_water_zero() -> None:
    async with wire(Recorder()) as held:
        held.transport.set_write_buffer_limits(high=0)
        held.transport.write(b"goes out at once")
        assert held.protocol.count("pause_writing") == 0
        head = held.fill()
        assert held.protocol.count("pause_writing") == 1
        await held.peer.recv(16 + head)
        await held.protocol.until(lambda: held.protocol.count("resume_writing"))
        assert held.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_write_inside_pause_writing_keeps_the_order(kind: str) -> None:
    def paused(protocol: Recorder) -> None:
        protocol.transport.write(b"inside")

    async with wire(Recorder(pause_writing=paused), kind) as held:
        held.transport.set_write_buffer_limits(high=0)
        head = held.fill()
        held.transport.write(b"after")
        assert held.protocol.count("pause_writing") == 1
        data = await held.peer.recv(head + 11)
        assert data[head:] == b"insideafter"


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_write_inside_resume_writing_keeps_the_order(kind: str) -> None:
    def resumed(protocol: Recorder) -> None:
        if protocol.count("resume_writing") == 1:
            protocol.transport.write(b"inside")
            protocol.transport.write(b"again")

    async with wire(Recorder(resume_writing=resumed), kind) as held:
        held.transport.set_write_buffer_limits(high=1 << 16, low=1 << 15)
        head = held.fill()
        held.transport.write(b"<" + bytes(1 << 17) + b">")
        data = await held.peer.recv(head + (1 << 17) + 2 + 11)
        assert data[head:].rstrip() == b"<" + bytes(1 << 17) + b">insideagain"


def test_close_inside_resume_writing_flushes(
    run: Any, loop_name: str, faults: Any
) -> None:
    def resumed(protocol: Recorder) -> None:
        protocol.transport.write(b"last")
        protocol.transport.close()

    async def main() -> None:
        async with wire(Recorder(resume_writing=resumed)) as held:
            held.transport.set_write_buffer_limits(high=0)
            head = held.fill()
            data = await held.peer.recv_all()
            assert data[head:] == b"last"
            assert await held.protocol.lost() is None
            assert held.protocol.count("resume_writing") == 1
            await settle(1)

    run(main())
    if loop_name == "asyncio":
        # it tries to call connection_lost twice, and stumbles over its own None
        faults.take_log()


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
@looped
async def test_flow_callback_that_raises(name: str) -> None:
    def fail(protocol: Recorder) -> None:
        raise ValueError("hostile")

    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    async with wire(Recorder(**{name: fail})) as held:
        held.transport.set_write_buffer_limits(high=0)
        head = held.fill()
        held.transport.write(b"still works")
        data = await held.peer.recv(head + 11)
        assert data[head:] == b"still works"
        await settle()
        [report] = reports
        assert report["message"] == f"protocol.{name}() failed"
        assert str(report["exception"]) == "hostile"
        assert report["transport"] is held.transport
        assert report["protocol"] is held.protocol
        assert set(report) == {"message", "exception", "transport", "protocol"}
        assert not held.transport.is_closing()
        reports.clear()


@looped
async def test_abort_inside_pause_writing() -> None:
    def paused(protocol: Recorder) -> None:
        protocol.transport.abort()

    async with wire(Recorder(pause_writing=paused)) as held:
        held.transport.set_write_buffer_limits(high=0)
        while not held.transport.is_closing():
            held.transport.write(bytes(1 << 16))
        assert await held.protocol.lost() is None
        assert held.protocol.names()[-2:] == ["pause_writing", "connection_lost"]


# --- after the peer, or the transport, is gone ---


def warned(faults: Any) -> int:
    texts = faults.take_log()
    assert set(texts) <= {"socket.send() raised exception."}
    return len(texts)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("kind", WIRES)
def test_writes_after_the_end_warn_and_never_raise(
    run: Any, faults: Any, kind: str, end: str
) -> None:
    async def main() -> None:
        async with wire(Recorder(), kind) as held:
            getattr(held.transport, end)()
            for _ in range(4):
                held.transport.write(b"ignored")
            assert warned(faults) == 0
            held.transport.write(b"ignored")
            assert warned(faults) == 1
            held.transport.write(b"")
            assert warned(faults) == 0
            await held.protocol.lost()
            held.transport.write(b"ignored")
            assert warned(faults) == 1
            assert held.transport.get_write_buffer_size() == 0
            assert await held.peer.recv_all() == b""

    run(main())


def test_writelines_after_the_end(both_factories: Any, faults: Any) -> None:
    async def scenario(end: str) -> Any:
        async with wire(Recorder()) as held:
            getattr(held.transport, end)()
            results = [
                outcome(held.transport.writelines, [b"ignored"])[0] for _ in range(6)
            ]
            results.append(await held.protocol.lost())
            results.append(held.peer.recv_now())
        return results, len(faults.take_log())

    def run(factory: Any, end: str) -> Any:
        # a loop for each: the standard one may go on watching the number
        loop = factory()
        try:
            return loop.run_until_complete(scenario(end))
        finally:
            loop.close()

    standard, ours = (
        [run(factory, end) for end in ("close", "abort")] for factory in both_factories
    )
    if WRITELINES_KNOW_THE_END:
        assert ours == standard
    else:
        assert [results for results, _ in ours] == [["returned"] * 6 + [None, b""]] * 2


@pytest.mark.parametrize("kind", ["tcp", "tcp6"])
def test_writes_after_a_reset_warn_and_never_raise(
    run: Any, faults: Any, kind: str
) -> None:
    async def main() -> None:
        async with wire(Recorder(), kind) as held:
            held.transport.pause_reading()
            held.peer.reset()
            for _ in range(20):
                held.transport.write(b"into the void")
                await asyncio.sleep(0)
            exc = await held.protocol.lost()
            assert type(exc) in (ConnectionResetError, BrokenPipeError)
            assert warned(faults) > 0
            assert held.transport.is_closing()

    run(main())


@pytest.mark.parametrize("kind", ["unix", "pair"])
def test_writes_to_a_closed_unix_peer_break_the_pipe(
    run: Any, faults: Any, kind: str
) -> None:
    async def main() -> None:
        async with wire(Recorder(), kind) as held:
            held.transport.pause_reading()
            held.peer.close()
            for _ in range(20):
                held.transport.write(b"into the void")
                await asyncio.sleep(0)
            assert type(await held.protocol.lost()) is BrokenPipeError
            assert warned(faults) > 0

    run(main())


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_peer_gone_with_a_queue(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        held.transport.pause_reading()
        held.fill()
        held.peer.close()
        exc = await held.protocol.lost()
        assert type(exc) in (ConnectionResetError, BrokenPipeError)
        assert held.transport.get_write_buffer_size() == 0


@looped
async def test_queue_is_dropped_when_the_connection_is_lost() -> None:
    class Watched(bytes):
        pass

    async with wire(Recorder()) as held:
        held.fill()
        data = Watched(b"x" * 100)
        count = sys.getrefcount(data)
        held.transport.write(data)
        assert sys.getrefcount(data) >= count
        held.transport.abort()
        await held.protocol.lost()
        gc.collect()
        assert sys.getrefcount(data) == count


# --- several transports ---


@looped
async def test_two_transports_on_one_socket_send_in_the_order_of_writes() -> None:
    loop = asyncio.get_running_loop()
    one, there = socket.socketpair()
    with there:
        two = one.dup()
        first, second = Recorder(), Recorder()
        await loop.create_connection(lambda: first, sock=one)
        await loop.create_connection(lambda: second, sock=two)
        for _ in range(20):
            first.transport.write(b"1")
            second.transport.write(b"2")
            await asyncio.sleep(0)
            second.transport.write(b"2")
            first.transport.write(b"1")
            await asyncio.sleep(0)
        assert there.recv(1000) == b"1221" * 20
        first.transport.abort()
        second.transport.abort()
        await first.lost()
        await second.lost()

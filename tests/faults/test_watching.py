"""The kernel watches no more descriptors: a user may watch only so many."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from conftest import Script
from support import only_asynccore

COMPILER = str(sysconfig.get_config_var("CC") or "cc").split()[0]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll, LD_PRELOAD")

# Refuses, while `refusal` is an errno, what the set does not watch yet.
REFUSAL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

int refusal;
int lateness; /* of each uv_run, in milliseconds */
int number;   /* of a signal that comes while a set is told of something, once */

int
uv_run(void *loop, int mode)
{
    void *libuv = dlopen("libuv.so.1", RTLD_LAZY);
    int (*real)(void *, int) = dlsym(libuv, "uv_run");
    struct timespec rest = {.tv_nsec = lateness * 1000000L};
    nanosleep(&rest, NULL);
    return real(loop, mode);
}

int
epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    int (*real)(int, int, int, struct epoll_event *) = dlsym(RTLD_NEXT, "epoll_ctl");
    int once = number;
    number = 0;
    if (once != 0) {
        raise(once);
    }
    int rc = real(set, op, fd, event);
    if (rc == 0 && op == EPOLL_CTL_ADD && refusal != 0) {
        real(set, EPOLL_CTL_DEL, fd, event);
        errno = refusal;
        rc = -1;
    }
    return rc;
}
"""

PROGRAM = """
import asyncio, ctypes, socket, sys
refusal = ctypes.c_int.in_dll(ctypes.CDLL(None), "refusal")
loop = new_event_loop()
if len(sys.argv) < 3:  # it has its own descriptors
    loop.call_later(0.001, loop.stop)
    loop.run_forever()

class Noted(asyncio.Protocol):
    made = 0

    def connection_made(self, transport):
        self.transport = transport
        self.ended = loop.create_future()
        Noted.made += 1

    def data_received(self, data):
        print("received", data)

    def connection_lost(self, exc):
        self.ended.set_result(exc)
"""


@pytest.fixture(scope="module")
def refusal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What LD_PRELOAD has to be."""
    folder: Path = tmp_path_factory.mktemp("refusal")
    source, library = folder / "refusal.c", folder / "refusal.so"
    source.write_text(REFUSAL)
    build = [COMPILER, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(build, check=True, timeout=50)
    first = os.environ.get("LD_PRELOAD", "")  # a sanitizer's runtime
    return f"{first} {library}".strip()


@pytest.fixture
def program(refusal: str, script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    """`script` with PROGRAM before it, and the kernel that can be told to refuse."""
    monkeypatch.setenv("LD_PRELOAD", refusal)
    return lambda code, *args: script(f"{PROGRAM}\n{code}", *args)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_number_of_the_program(program: Script, number: int) -> None:
    done = program(
        """
import sys
a, b = socket.socketpair()
loop.run_until_complete(asyncio.sleep(0))
refusal.value = int(sys.argv[1])
for _ in range(2):
    for add in (loop.add_reader, loop.add_writer):
        try:
            add(a, print)
        except OSError as exc:
            print(exc.errno)
    loop.run_until_complete(asyncio.sleep(0.001))
refusal.value = 0
loop.add_reader(a, loop.stop)
b.send(b".")
loop.run_forever()
loop.remove_reader(a)
loop.close()
""",
        str(number),
    )
    assert done.stdout == f"{number}\n" * 4


@only_asynccore  # the standard loop has its descriptors from the start
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_numbers_of_the_loop(program: Script, number: int) -> None:
    """libuv would abort the process."""
    done = program(
        """
a, b = socket.socketpair()
refusal.value = int(sys.argv[1])
for _ in range(2):
    try:
        loop.add_reader(a, print)
    except OSError as exc:
        print(exc.errno)
    loop.run_until_complete(asyncio.sleep(0.001))
refusal.value = 0
loop.run_until_complete(asyncio.sleep(0.001))
loop.add_reader(a, loop.stop)
b.send(b".")
loop.run_forever()
loop.remove_reader(a)
a.close()
b.close()
loop.close()
""",
        str(number),
        "late",
    )
    assert done.stdout == f"{number}\n" * 2


@only_asynccore  # the standard loop has its descriptors from the start
def test_wait_that_the_system_forbids(program: Script) -> None:
    """That is no shortage, which may pass."""
    done = program(
        """
refusal.value = int(sys.argv[1])
loop.call_later(0.001, loop.stop)
try:
    loop.run_forever()
except PermissionError:
    print("forbidden")
refusal.value = 0
loop.run_forever()
loop.close()
""",
        str(errno.EPERM),
        "late",
    )
    assert done.stdout == "forbidden\n"


@only_asynccore  # the standard loop asks the kernel for nothing then
def test_signal_while_the_loop_prepares_its_first_wait(program: Script) -> None:
    done = program(
        """
ctypes.c_int.in_dll(ctypes.CDLL(None), "number").value = 2
guard = loop.call_later(20, loop.stop)
start = loop.time()
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", loop.time() - start < 10)
guard.cancel()
loop.close()
""",
        "x",
        "late",
    )
    assert done.stdout == "interrupted True\n"


@only_asynccore  # as above
def test_timer_of_a_signal_before_the_first_wait(program: Script) -> None:
    done = program(
        """
import signal
signal.signal(signal.SIGUSR1, lambda *args: loop.call_later(0.001, loop.stop))
ctypes.c_int.in_dll(ctypes.CDLL(None), "number").value = signal.SIGUSR1
guard = loop.call_later(5, print, "late")
loop.run_forever()
guard.cancel()
loop.close()
""",
        "x",
        "late",
    )
    assert done.stdout == ""  # a timer that nobody saw would come with the guard


@only_asynccore  # which waits by a timer of libuv's then
def test_timer_that_is_due_before_the_poll(program: Script) -> None:
    """libuv before 1.45 runs it then, and would wait for what else may come."""
    done = program(
        """
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
a, b = socket.socketpair()
loop.add_reader(a, int)
lateness = ctypes.c_int.in_dll(ctypes.CDLL(None), "lateness")
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
lateness.value = 3
for _ in range(3):
    loop.run_until_complete(asyncio.sleep(0.001))
    print("woken")
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
loop.remove_reader(a)
a.close()
b.close()
loop.close()
""",
        "x",
        "late",
    )
    assert done.stdout == "woken\n" * 3


# the standard loop reports an exception of its _add_reader, and the connection hangs
@only_asynccore
@pytest.mark.parametrize("case", ["accepted", "same number", "resumed", "writing"])
def test_connection_of_the_loop(program: Script, case: str) -> None:
    """libuv would abort the process."""
    done = program(
        """
import sys
case = sys.argv[1]
loop.set_debug(False)  # else the standard's code accepts, and asks to watch

async def connect(address):
    before = Noted.made
    peer = socket.create_connection(address)
    while Noted.made == before:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return peer, protocols[-1]

protocols = []

def factory():
    protocols.append(Noted())
    return protocols[-1]

async def main():
    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.sleep(0.01)  # libuv's own descriptors are watched from here on
    if case == "same number":
        peer, protocol = await connect(address)
        peer.close()
        assert await protocol.ended is None
    if case in ("accepted", "same number"):
        refusal.value = 28
        peer, protocol = await connect(address)
    else:
        peer, protocol = await connect(address)
        protocol.transport.pause_reading()
        await asyncio.sleep(0.01)
        refusal.value = 28
        if case == "resumed":
            protocol.transport.resume_reading()
        else:
            protocol.transport.write(bytes(16 << 20))
    print(repr(await asyncio.wait_for(protocol.ended, 10)))
    refusal.value = 0
    peer.close()
    peer, protocol = await connect(address)
    peer.send(b"later")
    peer.close()
    await protocol.ended
    server.close()

loop.run_until_complete(main())
loop.close()
""",
        case,
    )
    assert done.stdout == (
        "OSError(28, 'No space left on device')\nreceived b'later'\n"
    )


@only_asynccore
def test_logger_that_raises(program: Script) -> None:
    """What is raised while the end is told of leaves no run_forever()."""
    done = program(
        """
import logging

def refuse(record):
    if "Fatal error" in record.getMessage():
        raise ValueError("not logged")
    return False

async def main():
    server = await loop.create_server(Noted, "127.0.0.1", 0)
    peer = socket.create_connection(server.sockets[0].getsockname())
    while not Noted.made:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    transport = next(iter(transports))
    transport.pause_reading()
    await asyncio.sleep(0.01)
    loop.set_debug(True)
    logger = logging.getLogger("asyncio")
    logger.setLevel(logging.DEBUG)
    logger.addFilter(refuse)
    told = loop.create_future()
    loop.set_exception_handler(lambda loop, context: told.set_result(context))
    refusal.value = 28
    transport.resume_reading()
    print(repr((await asyncio.wait_for(told, 10))["exception"]))
    refusal.value = 0
    transport.abort()
    peer.close()
    server.close()

transports = []
made = Noted.connection_made
Noted.connection_made = lambda self, transport: (
    transports.append(transport), made(self, transport)
)
loop.set_debug(False)
loop.run_until_complete(main())
loop.close()
"""
    )
    assert done.stdout == "ValueError('not logged')\n"

"""Workers for gunicorn that run on asynccore: `gunicorn -k asynccore.gunicorn.NAME`.

UvicornWorker   uvicorn's worker, of the package uvicorn-worker (uvicorn 0.36 or newer)
ASGIWorker      gunicorn's own ASGI worker (gunicorn 24 or newer)
AiohttpWorker   aiohttp's

Each is a subclass that chooses the loop, made when gunicorn asks for it. A loop is made
in the worker, after the fork, so that `--preload` works. And each ends when it is told
to, where its base may wait: see `_begin`, `_asgi` and `_aiohttp`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib import import_module

from . import new_event_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # the packages are optional, and not typed

    ASGIWorker: type[Any]
    AiohttpWorker: type[Any]
    UvicornWorker: type[Any]

__all__ = ["ASGIWorker", "AiohttpWorker", "UvicornWorker"]


_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def _end(sig: int, frame: object) -> None:
    sys.exit(0)


def _begin() -> None:
    """Ends a worker that was told to before it had handlers of its own.

    From the fork on it has those of the master, which put the number into a queue for
    the master's turn. The worker's copy of that queue is read by nobody: the master
    would wait for the worker until the graceful time-out, and kill it.
    """
    master = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    for sig in _ENDING:
        signal.signal(sig, _end)  # until init_signals()
    queue: Any = getattr(master, "SIG_QUEUE", ())  # a list in older ones
    if hasattr(queue, "get_nowait"):
        queue = [queue.get_nowait() for _ in range(queue.qsize())]
    if not set(queue).isdisjoint(_ENDING):
        sys.exit(0)


def _uvicorn() -> object:
    try:
        base = import_module("uvicorn_worker").UvicornWorker
    except ModuleNotFoundError as exc:
        if exc.name != "uvicorn_worker":
            raise
        base = import_module("uvicorn.workers").UvicornWorker
    options = {**base.CONFIG_KWARGS, "loop": "asynccore:new_event_loop"}

    def init_process(worker: Any) -> None:
        _begin()
        base.init_process(worker)

    members = {"CONFIG_KWARGS": options, "init_process": init_process}
    return type("UvicornWorker", (base,), members)


def _asgi() -> object:
    gasgi = import_module("gunicorn.workers.gasgi")
    base = gasgi.ASGIWorker
    protocol = gasgi.ASGIProtocol

    def set_up(worker: Any) -> None:
        _begin()
        worker.loop = new_event_loop()
        asyncio.set_event_loop(worker.loop)

    async def serve(worker: Any) -> None:
        worker._serving = asyncio.current_task()
        await base._serve(worker)

    def notify(worker: Any) -> None:
        base.notify(worker)
        worker._sleeps = True  # right after this, for a second, until it is told to end

    def handle_exit_signal(worker: Any) -> None:
        wakes = worker.alive and getattr(worker, "_sleeps", False)
        base.handle_exit_signal(worker)
        if wakes:
            worker._serving.cancel()  # _serve() takes it for the end of the sleep

    async def shutdown(worker: Any) -> None:
        # the idle connections: else they are waited for until their own time-out
        for handle in list(worker.loop._scheduled):
            callback: Any = None if handle.cancelled() else handle._callback
            if getattr(callback, "__func__", None) is protocol._keepalive_timeout:
                callback()
        await base._shutdown(worker)

    members: dict[str, object] = {"_setup_event_loop": set_up}
    if not hasattr(base, "_setup_event_loop"):
        raise ImportError("this gunicorn's ASGI worker makes its loop in another way")
    if hasattr(base, "_serve") and hasattr(base, "handle_exit_signal"):
        members |= {"_serve": serve, "notify": notify}
        members["handle_exit_signal"] = handle_exit_signal
    if hasattr(base, "_shutdown") and hasattr(protocol, "_keepalive_timeout"):
        members["_shutdown"] = shutdown
    return type("ASGIWorker", (base,), members)


def _aiohttp() -> object:
    base = import_module("aiohttp.worker").GunicornWebWorker

    def init_process(worker: Any) -> None:
        _begin()
        worker.loop = new_event_loop()
        asyncio.set_event_loop(worker.loop)
        super(base, worker).init_process()

    def handle_exit(worker: Any, sig: int, frame: object) -> None:
        base.handle_exit(worker, sig, frame)
        # as its handle_quit does: else it sees only in its next look, a second later
        worker._notify_waiter_done()

    members: dict[str, object] = {"init_process": init_process}
    if hasattr(base, "_notify_waiter_done"):
        members["handle_exit"] = handle_exit
    return type("AiohttpWorker", (base,), members)


_MAKERS = {"UvicornWorker": _uvicorn, "ASGIWorker": _asgi, "AiohttpWorker": _aiohttp}


def __getattr__(name: str) -> object:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = globals()[name] = _MAKERS[name]()
    return worker

"""Workers for gunicorn that run on asynccore: `gunicorn -k asynccore.gunicorn.NAME`.

UvicornWorker   uvicorn's worker, of the package uvicorn-worker (uvicorn 0.36 or newer)
ASGIWorker      gunicorn's own ASGI worker (gunicorn 24 or newer)
AiohttpWorker   aiohttp's

Each is a subclass that chooses the loop, made when gunicorn asks for it. A loop is made
in the worker, after the fork, so that `--preload` works.
"""

from __future__ import annotations

import asyncio
from importlib import import_module

from . import new_event_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # the packages are optional, and not typed

    ASGIWorker: type[Any]
    AiohttpWorker: type[Any]
    UvicornWorker: type[Any]

__all__ = ["ASGIWorker", "AiohttpWorker", "UvicornWorker"]


def _uvicorn() -> object:
    try:
        base = import_module("uvicorn_worker").UvicornWorker
    except ModuleNotFoundError as exc:
        if exc.name != "uvicorn_worker":
            raise
        base = import_module("uvicorn.workers").UvicornWorker
    options = {**base.CONFIG_KWARGS, "loop": "asynccore:new_event_loop"}
    return type("UvicornWorker", (base,), {"CONFIG_KWARGS": options})


def _asgi() -> object:
    base = import_module("gunicorn.workers.gasgi").ASGIWorker

    def set_up(worker: Any) -> None:
        worker.loop = new_event_loop()
        asyncio.set_event_loop(worker.loop)

    if not hasattr(base, "_setup_event_loop"):
        raise ImportError("this gunicorn's ASGI worker makes its loop in another way")
    return type("ASGIWorker", (base,), {"_setup_event_loop": set_up})


def _aiohttp() -> object:
    base = import_module("aiohttp.worker").GunicornWebWorker

    def init_process(worker: Any) -> None:
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

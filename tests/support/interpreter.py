"""What of asyncio the patch release that runs the tests has: its code is asked."""

from __future__ import annotations

import sysconfig
from asyncio import StreamReaderProtocol, selector_events, sslproto, unix_events
from asyncio.subprocess import SubprocessStreamProtocol
from subprocess import Popen
from types import CodeType
from typing import Any


def lost_tls_aborts() -> bool:
    transport: Any = sslproto._SSLProtocolTransport(None, None)  # type: ignore[arg-type]
    try:
        transport.abort()
    except AttributeError:
        return False
    return True


def handlers_are_reported() -> bool:
    made = StreamReaderProtocol.connection_made
    codes = [code for code in made.__code__.co_consts if isinstance(code, CodeType)]
    return any(code.co_name == "callback" for code in codes)


# abort() of a TLS transport after connection_lost(); 3.11.2 raises AttributeError
LOST_TLS_ABORTS = lost_tls_aborts()
# an exception of start_server's callback; 3.11.2 leaves it in the task
HANDLERS_ARE_REPORTED = handlers_are_reported()
# pause_reading() of a datagram transport, and in connection_made() of a stream; in
# 3.11.2 datagram transports have none, and the standard stream transport reads on
PAUSES_EARLY = "pause_reading" in vars(selector_events._SelectorTransport)
# the same, and close(), in connection_made() of a read pipe
PIPES_PAUSE_EARLY = "is_reading" in vars(unix_events._UnixReadPipeTransport)
# Popen closes the pipes it has made when it cannot make the next; 3.11.2 loses them
POPEN_CLOSES_PIPES = hasattr(Popen, "_on_error_fd_closer")
# nobody need ask for the end of a child's stdin; 3.11.2 complains when nobody does
STDIN_MAY_BREAK = (
    "_log_traceback" in SubprocessStreamProtocol.pipe_connection_lost.__code__.co_names
)

# writelines() after the end is ignored, and warned of; 3.12 and some of 3.13 call None
# after close(), or go on watching the number
WRITELINES_KNOW_THE_END = (
    "_conn_lost"
    in selector_events._SelectorSocketTransport.writelines.__code__.co_names
    or "writelines" not in vars(selector_events._SelectorSocketTransport)
)


# its objects lie in mimalloc: malloc() does not know of them, PYTHONMALLOC=malloc is
# refused, and what was freed stays
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def is_reading(transport: Any) -> bool:
    """transport.is_reading(), which the standard read pipe of 3.11.2 does not have."""
    standard = isinstance(transport, unix_events._UnixReadPipeTransport)
    if standard and not PIPES_PAUSE_EARLY:
        return not (transport._paused or transport._closing)
    reading: bool = transport.is_reading()
    return reading

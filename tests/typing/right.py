"""What a typed program does with asynccore; mypy --strict finds nothing wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import assert_type

import asynccore


async def main() -> int:
    loop = asyncio.get_running_loop()
    assert_type(loop.call_soon(print, "x", context=None), asyncio.Handle)
    return 5


class Own(asynccore.Loop):
    def time(self) -> float:
        return super().time() * 2


assert_type(asynccore.run(main()), int)
assert_type(asynccore.run(main(), debug=None), int)
assert_type(asynccore.__version__, str)

with asyncio.Runner(loop_factory=asynccore.new_event_loop) as runner:
    assert_type(runner.run(main()), int)

loop = asynccore.new_event_loop()
assert_type(loop, asynccore.Loop)
any_loop: asyncio.AbstractEventLoop = loop
selector_loop: asyncio.SelectorEventLoop = loop
assert_type(loop.time(), float)
assert_type(loop.call_soon(print, 1, 2), asyncio.Handle)
assert_type(loop.call_soon_threadsafe(print), asyncio.Handle)
assert_type(loop.call_later(0.5, print), asyncio.TimerHandle)
assert_type(loop.call_at(0.5, print, "x"), asyncio.TimerHandle)
assert_type(loop.run_until_complete(main()), int)
assert_type(loop.create_task(main()), asyncio.Task[int])
assert_type(loop.cork, bool)
loop.cork = False
loop.slow_callback_duration = 0.5
loop.close()

own = Own()
assert_type(own.run_until_complete(main()), int)
own.close()

assert_type(asynccore.show_config("dict"), dict[str, str])
asynccore.show_config()
asynccore.install()
if sys.version_info < (3, 14):
    asyncio.set_event_loop_policy(asynccore.EventLoopPolicy())

"""What mypy must refuse: each line with a comment, and no other."""

from __future__ import annotations

import asynccore


async def main() -> int:
    return 5


def wants(number: int) -> None: ...


text: str = asynccore.run(main())  # assignment
asynccore.run(main)  # arg-type
asynccore.run(main(), True)  # call-arg
asynccore.show_config("x")  # call-overload
print(asynccore.nothing)  # attr-defined
loop = asynccore.new_event_loop()
loop.call_soon(wants, "x")  # arg-type
loop.call_later("x", print)  # arg-type
loop.cork = "x"  # assignment

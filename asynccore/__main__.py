"""python -m asynccore: see _program.py."""

from __future__ import annotations

import sys

from asynccore._program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

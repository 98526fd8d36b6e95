"""Prints the requirements of the named extras of pyproject.toml, one a line."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main() -> None:
    text = Path(__file__).parent.with_name("pyproject.toml").read_text()
    project = tomllib.loads(text)
    extras = project["project"]["optional-dependencies"]
    print(*project["build-system"]["requires"], sep="\n")
    for name in sys.argv[1:]:
        print(*extras[name], sep="\n")


if __name__ == "__main__":
    main()

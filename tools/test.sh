#!/bin/sh
# Installs what is missing (as root; else names it), builds asynccore into .venv and runs
# its tests. Arguments go to pytest. Safe to run again.
set -eu
. "$(dirname -- "$0")/prepare.sh"

prepare 'test frameworks' wrk wrk
say "tests on $("$python" -V)"
"$python" -m pytest "$@"

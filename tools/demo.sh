#!/bin/sh
# Installs what is missing (as root; else names it), builds asynccore into .venv and
# serves HTTP on asyncio, uvloop and asynccore in turn under load: a table and a plot.
# Arguments go to examples/main_job.py. Safe to run again.
set -eu
. "$(dirname -- "$0")/prepare.sh"

prepare bench wrk wrk
"$python" examples/main_job.py "$@"

#!/bin/sh
# Builds asynccore into .venv and runs the leak scripts of tests/isolated, each in a
# process of its own: what must not grow is counted over many cycles. Arguments go to
# `python -m tests.isolated`.
set -eu
. "$(dirname -- "$0")/prepare.sh"

prepare test
say "leak scripts on $("$python" -V)"
exec "$python" -m tests.isolated "$@"

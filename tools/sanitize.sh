#!/bin/sh
# Builds a copy of the checkout with AddressSanitizer, UndefinedBehaviorSanitizer and
# assertions, in .cache/sanitize, and runs the tests there. Arguments go to pytest.
set -eu
. "$(dirname -- "$0")/prepare.sh"

prepare_packages test wrk wrk
copy=$top/.cache/sanitize
copy_tree "$copy"
cd "$copy"
say 'building asynccore with the sanitizers'
ASYNCCORE_SANITIZE=address,undefined ASYNCCORE_DEBUG=1 \
    "$python" setup.py -q build_ext --inplace

library=$(gcc -print-file-name=libasan.so)
[ -e "$library" ] || die "gcc has no libasan.so: $library"
# The interpreter is not instrumented, so the runtime comes first by preloading; its own
# blocks come from malloc so that each is watched. It leaks on exit by design.
export LD_PRELOAD="$library" PYTHONMALLOC=malloc PYTHONPATH="$copy"
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:${UBSAN_OPTIONS:-}"
say "tests under the sanitizers on $("$python" -V)"
exec "$python" -m pytest -o timeout=180 "$@"

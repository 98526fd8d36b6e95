#!/bin/sh
# What link-time optimisation (lto) and a profile (pgo) are worth: instructions per
# operation of asynccore built as `pip install` does and with these, in copies of the
# checkout. Arguments: workloads of the benchmark. gcc, valgrind, and a PYTHON that has
# setuptools.
set -eu
. "$(dirname -- "$0")/prepare.sh"

copies=$top/.cache/variants
load='tcp-1k-100 streams-1k-100 sock-1k tls-1k unix-1k writes-16 call-soon turn
    timers sleep-0 gather'
[ $# -gt 0 ] || set -- tcp-1k-10 streams-1k-100 tls-1k call-soon turn timers-churn

# build FLAGS: in the current directory; the flags are the linker's too
build() {
    CFLAGS=$1 LDFLAGS=$1 "$base" setup.py -q build_ext --inplace
}

# The servers end by a signal, without the exit() that writes the counters.
mkdir -p "$copies/exit"
cat >"$copies/exit/sitecustomize.py" <<'END'
import ctypes
import signal

signal.signal(signal.SIGTERM, lambda *_: ctypes.CDLL(None).exit(0))
END

for variant in plain lto pgo; do
    copy_tree "$copies/$variant"
    cd "$copies/$variant"
    case $variant in
    pgo)
        say "$variant: the profile"
        find . -name '*.gcda' -exec rm {} +
        build "-fprofile-generate -fprofile-update=atomic"
        # shellcheck disable=SC2086 # words
        PYTHONPATH=$copies/exit:$PWD "$base" -m benchmarks.run --quick --rounds 1 \
            --loops asynccore --base asynccore $load >/dev/null 2>&1
        build "-fprofile-use -fprofile-correction -Wno-missing-profile"
        ;;
    lto) build -flto=auto ;;
    plain) build "" ;;
    esac
    say "$variant"
    PYTHONPATH=$PWD "$base" -m benchmarks.count --loops asynccore "$@"
done

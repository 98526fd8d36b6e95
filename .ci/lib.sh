# Sourced by run and full: steps with their times, lanes of steps side by side,
# interpreters, one last line.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1
# Nothing of the caller's build or virtualenv may leak into ours.
unset ASYNCCORE_DEBUG ASYNCCORE_SANITIZE ASYNCCORE_COVERAGE ASYNCCORE_WERROR
unset ASYNCCORE_VENV VIRTUAL_ENV PYTHONPATH PYTHONHOME CC
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

lanes=$top/.cache/lanes # the output and the results of each, and their checkouts
rm -f "$lanes"/*.log "$lanes"/*.results "$lanes/failed"
mkdir -p "$lanes"
running=() # NAME=PID
results=()

# step NAME COMMAND...: runs it, and ends the script with the summary if it fails; with
# KEEP_GOING=1 only the script's status tells in the end. A lane of its own ends with its
# first failure, and at the next step after a failure in another one.
step() {
    local name=$1 start=$SECONDS status
    shift
    [ -n "${KEEP_GOING:-}" ] || [ ! -e "$lanes/failed" ] || exit 1
    printf '\n##### %s\n' "$name"
    # Not in a condition: there `set -e` would not hold.
    (set -e; "$@") </dev/null
    status=$?
    local took=$((SECONDS - start))
    if [ "$status" = 0 ]; then
        results+=("ok      $(printf '%4d' $took) s  $name")
        printf '##### %s: ok, %d s\n' "$name" "$took"
        return
    fi
    touch "$lanes/failed"
    results+=("FAILED  $(printf '%4d' $took) s  $name (status $status)")
    printf '##### %s: FAILED with %d, %d s\n' "$name" "$status" "$took"
    [ -n "${KEEP_GOING:-}" ] || exit 1
}

# step_skipped NAME REASON: a step that this machine cannot do.
step_skipped() {
    results+=("skipped         $1: $2")
    printf '\n##### %s: skipped, %s\n' "$1" "$2"
}

# lane NAME FUNCTION: starts the steps of FUNCTION beside what follows, in a copy of the
# checkout, where nobody else builds. `join` waits for the lanes and shows what they said.
lane() {
    printf '\n##### lane %s: output in %s\n' "$1" "$lanes/$1.log"
    set -m # a process group of its own, to be ended with all that it has started
    in_lane "$@" >"$lanes/$1.log" 2>&1 </dev/null &
    running+=("$1=$!")
    set +m
}

in_lane() {
    results=()
    running=()
    trap 'printf "%s\n" "${results[@]}" >"$copy.results"' EXIT
    copy=$lanes/$1
    sh -euc '. tools/prepare.sh; copy_tree "$1"' tools/lane "$copy" || exit 1
    cd "$copy" || exit 1
    "$2"
}

join() {
    local pair name line
    for pair in "${running[@]}"; do
        name=${pair%%=*}
        wait "${pair#*=}" || touch "$lanes/failed"
        printf '\n########## lane %s\n' "$name"
        cat "$lanes/$name.log"
        if [ ! -s "$lanes/$name.results" ]; then
            results+=("FAILED          lane $name: it ended without a result")
            continue
        fi
        while read -r line; do
            results+=("$line")
        done <"$lanes/$name.results"
    done
    running=()
    [ -n "${KEEP_GOING:-}" ] || [ ! -e "$lanes/failed" ] || exit 1
}

summary() {
    local pair failed
    for pair in "${running[@]}"; do
        kill -- "-${pair#*=}" 2>/dev/null
        touch "$lanes/failed"
        results+=("stopped         lane ${pair%%=*}: see $lanes/${pair%%=*}.log")
    done
    printf '\n'
    printf '%s\n' "${results[@]}" "        $(printf '%4d' "$SECONDS") s  in all"
    failed=$(printf '%s\n' "${results[@]}" | grep -c '^FAILED')
    printf 'steps: %d passed, %d failed\n' \
        "$(printf '%s\n' "${results[@]}" | grep -c '^ok ')" "$failed"
    [ "$failed" = 0 ] && [ ! -e "$lanes/failed" ] || exit 1
}
trap summary EXIT

# apt_install PROGRAM=PACKAGE...: the packages whose program is not there.
apt_install() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    echo "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# find_python VERSION: this machine's interpreter of that version, if it has one.
find_python() {
    local candidate
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3 \
        "/usr/local/bin/python$1" "/usr/bin/python$1"; do
        [ -x "$candidate" ] || continue
        "$candidate" - "$1" <<'END' 2>/dev/null || continue
import ensurepip, os, sys, sysconfig, venv
include = sysconfig.get_path("include")
header = os.path.exists(os.path.join(include, "Python.h"))
sys.exit(not (header and "%d.%d" % sys.version_info[:2] == sys.argv[1]))
END
        echo "$candidate"
        return
    done
}

# The version of the interpreter that tools/test.sh takes.
default_version() {
    "${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])' || true
}

# What on_python installs into a virtualenv of this machine.
extras='test'

# Nothing takes longer than this many seconds, unless it hangs.
limit=7200

# on_python VERSION COMMAND: a sh command with `python` of that version, asynccore built
# in place for it; on this machine, else in the sid root.
on_python() {
    local base
    base=$(find_python "$1")
    if [ -n "$base" ]; then
        # shellcheck disable=SC2016 # expanded by the inner sh
        PYTHON=$base ASYNCCORE_VENV=$top/.cache/venv/$1 PATH=$top/.cache/venv/$1/bin:$PATH \
            timeout "$limit" sh -euc '. tools/prepare.sh; prepare "$2"; eval "$1"' tools/on_python "$2" "$extras"
    else
        timeout "$limit" tools/sid-root.sh run "python$1" \
            "set -e; python -V; python setup.py -q build_ext --inplace; $2"
    fi
}

check_format() {
    local python=.venv/bin/python
    $python tools/requirements.py lint >.cache/lint.txt
    $python -m pip install -qq -r .cache/lint.txt
    git ls-files -z '*.c' '*.h' |
        xargs -0 .venv/bin/clang-format --dry-run -Werror
    $python -m ruff check .
    $python -m ruff format --check .
    git ls-files -z 'tools/*.sh' .ci | xargs -0 shellcheck -x -P SCRIPTDIR
}

check_types() {
    .venv/bin/python -m mypy
    .venv/bin/python -m pytest -q tests/typing
}

check_docs() {
    local python=.venv/bin/python
    $python tools/requirements.py docs >.cache/docs.txt
    $python -m pip install -qq -r .cache/docs.txt
    $python -m mkdocs build --strict --quiet --site-dir .cache/site
}

# build_with CC: every warning is an error.
build_with() {
    local out=.cache/build-$1
    CC=$1 LDSHARED="$1 -shared" ASYNCCORE_WERROR=1 .venv/bin/python setup.py -q \
        build_ext --build-temp "$out/temp" --build-lib "$out/lib"
}

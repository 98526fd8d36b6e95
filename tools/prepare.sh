# Sourced by demo.sh, test.sh and others: what the machine lacks, and a virtualenv with
# the extension built in place.
#
# prepare EXTRAS [PACKAGE COMMAND]...  leaves the virtualenv's python in $python; the
#                                      pairs name programs that the caller needs as well
#
# PYTHON              the interpreter  (python3)
# ASYNCCORE_VENV      the virtualenv   (.venv in the checkout)
# shellcheck shell=sh

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${ASYNCCORE_VENV:-$top/.venv}
base=${PYTHON:-python3}

say() {
    printf '== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

has_header() {
    printf '#include <%s>\n' "$1" | gcc ${2:+"-I$2"} -E -x c - >/dev/null 2>&1
}

# The Debian packages that would bring what this machine does not have, one a line.
missing_packages() {
    if ! command -v "$base" >/dev/null; then
        printf '%s\n' python3 python3-dev python3-venv
    else
        include=$("$base" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        [ -f "$include/Python.h" ] || echo python3-dev
        "$base" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    fi
    if ! command -v gcc >/dev/null; then
        printf '%s\n' gcc libc6-dev libuv1-dev
    else
        has_header stdlib.h || echo libc6-dev
        [ -n "${ASYNCCORE_LIBUV:-}" ] || has_header uv.h || pkg-config libuv 2>/dev/null ||
            echo libuv1-dev
    fi
    if [ -f /etc/debian_version ]; then
        [ -f /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
        # who else would make it, so that localhost has an address
        [ -f /etc/hosts ] || dpkg -s netbase >/dev/null 2>&1 || echo netbase
    fi
    while [ $# -ge 2 ]; do
        command -v "$2" >/dev/null || echo "$1"
        shift 2
    done
}

install_packages() {
    [ -z "${PYTHON:-}" ] || command -v "$PYTHON" >/dev/null ||
        die "there is no PYTHON=$PYTHON"
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "missing packages (Debian's names): $missing"
    fi
    say "installing $missing"
    apt-get -qq update
    # shellcheck disable=SC2086 # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        $missing >/dev/null
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "still missing after the installation: $missing"
}

make_venv() {
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$base is $("$base" -V): asynccore needs Python 3.11 or newer"
    wanted=$("$base" -c 'import sys; print(sys.version)')
    if [ "$("$python" -c 'import sys; print(sys.version)' 2>/dev/null)" != "$wanted" ]; then
        say "virtualenv in $venv: $("$base" -V)"
        "$base" -m venv --clear "$venv"
    fi
}

# The packages of the extras $1, without asynccore.
install_extras() {
    # shellcheck disable=SC2086 # one word an extra
    "$python" tools/requirements.py $1 >"$venv/requirements.txt"
    "$python" -m pip install -qq --disable-pip-version-check -r "$venv/requirements.txt"
}

# prepare without the build: the caller builds elsewhere.
prepare_packages() {
    extras=$1
    shift
    python=$venv/bin/python
    cd "$top" || exit 1
    install_packages "$@"
    make_venv
    say "the packages of [$extras]"
    install_extras "$extras"
}

prepare() {
    extras=$1
    prepare_packages "$@"
    say 'building asynccore'
    "$python" -m pip install -qq --disable-pip-version-check --no-deps \
        --no-build-isolation -e .
}

# The checkout's files, without what is built in it; objects of an earlier copy stay.
copy_tree() {
    mkdir -p "$1"
    find "$1" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    git -C "$top" ls-files -z --cached --others --exclude-standard |
        tar -C "$top" --null --ignore-failed-read --no-recursion -T - -cf - |
        tar -C "$1" -xf -
    [ -f "$1/setup.py" ] || die "git does not list the files of $top"
}

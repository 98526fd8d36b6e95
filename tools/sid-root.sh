#!/bin/sh
# A Debian sid root with CPython 3.14 and 3.15, for the tests on interpreters that
# this machine's release does not have. Linux, as root.
#
#   tools/sid-root.sh create              make the root and its virtualenvs (idempotent)
#   tools/sid-root.sh run PYTHON COMMAND  run a sh command in it, in the checkout
#   tools/sid-root.sh path                print where it is
#   tools/sid-root.sh remove              delete it
#
# PYTHON is python3.14 or python3.15; `python` in COMMAND is that version's virtualenv,
# /opt/v/3.14 or /opt/v/3.15, which has the extras [test,frameworks]. python3.14d is a
# debug build of 3.14 for the leak scripts: it counts references. The checkout is
# mounted at /src, the current directory of COMMAND; what is built there carries the
# version's tag.
#
# ASYNCCORE_SID_ROOT    where the root is  (~/.cache/asynccore/sid)
# ASYNCCORE_SID_MIRROR  Debian mirror      (the one of this machine's apt)
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${ASYNCCORE_SID_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/asynccore/sid}
versions='3.14 3.15'
# for tests; added to a root that is there, not a reason to make it anew
servers='libpq5 postgresql redis-server'
debug=3.14
certificates=/etc/ssl/certs/ca-certificates.crt

packages=gcc,libc6-dev,libuv1-dev,pkgconf,ca-certificates,git
for version in $versions; do
    packages=$packages,python$version,python$version-dev,python$version-venv
    packages=$packages,libpython$version-testsuite
done

die() {
    echo "sid-root: $*" >&2
    exit 1
}

mirror() {
    if [ -n "${ASYNCCORE_SID_MIRROR:-}" ]; then
        echo "$ASYNCCORE_SID_MIRROR"
        return
    fi
    # shellcheck disable=SC2016 # apt-get expands $(SITE)
    found=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
        grep -m 1 '/debian/*$' || true)
    echo "${found:-http://deb.debian.org/debian}"
}

# Bind mounts live in a mount namespace of their own, so nothing is left behind.
enter() {
    # shellcheck disable=SC2016 # expanded by the inner sh
    ASYNCCORE_ROOT=$root ASYNCCORE_TOP=$top unshare --mount --propagation private \
        sh -eu -c '
        mount --rbind /proc "$ASYNCCORE_ROOT/proc"
        mount --rbind /sys "$ASYNCCORE_ROOT/sys"
        mount --rbind /dev "$ASYNCCORE_ROOT/dev"
        mount --bind "$ASYNCCORE_TOP" "$ASYNCCORE_ROOT/src"
        root=$ASYNCCORE_ROOT
        unset ASYNCCORE_ROOT ASYNCCORE_TOP
        exec chroot "$root" "$@"' sh "$@"
}

# The caller's environment goes in (CI, ASYNCCORE_*, pip's index), but for what names
# places outside the root.
enter_python() {
    version=$1
    shift
    if [ -f "$root$certificates" ]; then
        export PIP_CERT=$certificates SSL_CERT_FILE=$certificates
    fi
    unset SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_FIND_LINKS PIP_REQUIRE_VIRTUALENV
    unset PYTHONPATH PYTHONHOME VIRTUAL_ENV LD_PRELOAD LD_LIBRARY_PATH PYENV_VERSION
    HOME=/root TMPDIR=/tmp LC_ALL=C.UTF-8 \
        PATH=/opt/v/$version/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        enter "$@"
}

ready() {
    [ -f "$root/.ready" ] && [ "$(cat "$root/.ready")" = "$packages" ]
}

make_root() {
    command -v mmdebstrap >/dev/null || die 'mmdebstrap is missing: apt-get install mmdebstrap'
    from=$(mirror)
    echo "sid-root: $root from $from"
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    # A mirror may be a snapshot, whose Release file is past its Valid-Until.
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='Acquire::Check-Date "false"' \
        --aptopt='Acquire::Languages "none"' \
        sid "$root" "$from"
    mkdir -p "$root/src" "$root/opt/v"
}

add_servers() {
    if [ -e "$root/usr/bin/redis-server" ] && [ -d "$root/usr/lib/postgresql" ]; then
        return
    fi
    # shellcheck disable=SC2016 # expanded inside the root
    DEBIAN_FRONTEND=noninteractive enter sh -eu -c '
        apt-get -qq update
        apt-get -qq install --no-install-recommends $0 >/dev/null
    ' "$servers"
}

# Added as the servers are.
add_debug_python() {
    [ ! -x "$root/opt/v/${debug}d/bin/python" ] || return 0
    # shellcheck disable=SC2016 # expanded inside the root
    enter_python "${debug}d" sh -eu -c '
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            "python$0-dbg" >/dev/null
        "python${0}d" -m venv "/opt/v/${0}d"
        cd /src
        { python tools/requirements.py; echo "pytest>=8"; } >/tmp/requirements.txt
        python -m pip install -qq --disable-pip-version-check -r /tmp/requirements.txt
    ' "$debug"
}

make_venv() {
    version=$1
    # shellcheck disable=SC2016 # expanded inside the root
    enter_python "$version" sh -eu -c '
        cd /src
        [ -e "/opt/v/$0/bin/pip" ] || "python$0" -m venv "/opt/v/$0"
        python tools/requirements.py test frameworks >/tmp/requirements.txt
        python -m pip install -qq --disable-pip-version-check -r /tmp/requirements.txt
    ' "$version"
}

create() {
    [ "$(id -u)" = 0 ] || die 'needs root'
    mkdir -p "$(dirname -- "$root")"
    exec 9>"$root.lock"
    flock 9
    ready || make_root
    # What this machine trusts and how it resolves names holds inside too.
    for file in /etc/resolv.conf $certificates; do
        if [ -f "$file" ]; then
            cat "$file" >"$root$file"
        fi
    done
    add_servers
    for version in $versions; do
        make_venv "$version"
    done
    add_debug_python
    echo "$packages" >"$root/.ready"
    exec 9>&-
}

case ${1-} in
create)
    create
    ;;
run)
    [ $# = 3 ] || die 'usage: tools/sid-root.sh run PYTHON COMMAND'
    [ "$(id -u)" = 0 ] || die 'needs root'
    [ -f "$root/.ready" ] || die "no root at $root: run 'tools/sid-root.sh create' first"
    version=${2#python}
    [ -d "$root/opt/v/$version" ] || die "no $2 in $root"
    # shellcheck disable=SC2016 # expanded inside the root
    enter_python "$version" sh -c 'cd /src && eval "$0"' "$3"
    ;;
path)
    echo "$root"
    ;;
remove)
    rm -rf --one-file-system "$root" "$root.lock"
    ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
    ;;
esac

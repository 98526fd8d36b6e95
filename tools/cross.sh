#!/bin/sh
# Compiles csrc/, every warning an error, for systems that this machine is not, with zig's
# clang and headers (from PyPI), those of this Python and of this libuv. Nothing is
# linked, nothing is run. Arguments: zig targets.
set -eu
. "$(dirname -- "$0")/prepare.sh"

[ $# -gt 0 ] || set -- aarch64-macos x86_64-macos x86_64-linux-musl
cross=$top/.cache/cross
install_packages pkg-config pkg-config
[ -x "$cross/venv/bin/python" ] || "$base" -m venv "$cross/venv"
"$cross/venv/bin/python" -m pip install -qq --disable-pip-version-check ziglang
# libuv's headers alone, without those of this system beside them
libuv=${ASYNCCORE_LIBUV:-$(pkg-config --variable=prefix libuv)}
mkdir -p "$cross/include"
cp -R "$libuv/include/uv.h" "$libuv/include/uv" "$cross/include"
include=$("$base" -c 'import sysconfig; print(sysconfig.get_path("include"))')

cd "$top"
for target; do
    say "$target"
    # shellcheck disable=SC2016 # expanded by the inner sh
    find csrc -name '*.c' -print0 | xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" sh -euc '
        object=$(mktemp)
        trap "rm -f $object" EXIT
        "$1/venv/bin/python" -m ziglang cc -target "$2" -std=c11 -Wall -Wextra -Werror \
            -I csrc -I "$3" -I "$1/include" -c "$4" -o "$object"
    ' sh "$cross" "$target" "$include"
done

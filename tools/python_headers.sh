#!/bin/sh
# Print the compiler flags for Python.h, and fetch the header first if it is missing.
#
#   python_headers.sh PYTHON DIRECTORY
#
# Debian keeps Python.h in libpython3.x-dev, which a machine with only python3 and gcc lacks. The package is unpacked
# below DIRECTORY, with a package index of our own there, so that neither root nor an installation is needed.
set -eu
python=$1
directory=$2

include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$include/Python.h" ] && exit 0

flags="-I$directory/root/usr/include -I$directory/root/usr/include/$(basename "$include")"
if [ ! -f "$directory/root/usr/include/$(basename "$include")/Python.h" ]; then
    package=libpython$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        echo "No Python.h in $include: install your system's Python development package and run this again." >&2
        exit 1
    fi
    echo "No Python.h in $include: unpacking Debian's $package into $directory (nothing is installed)" >&2
    mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial" "$directory/root"
    apt() {
        apt-get -qq -o Dir::State::lists="$directory/lists" -o Dir::Cache="$directory/cache" \
            -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@" >&2
    }
    apt update
    (cd "$directory" && apt download "$package")
    dpkg -x "$directory/$package"_*.deb "$directory/root"
fi
echo "$flags"

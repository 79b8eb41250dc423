#!/bin/sh
# Build and run the C unit tests in the directory $1, with the remaining arguments for meson.
set -eu
build=$1
shift
[ -f "$build/build.ninja" ] || meson setup "$build" . -Dbindings=false -Dunit_tests=true "$@" >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    exit 1
}
ninja -C "$build" >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
exec meson test -C "$build" --no-rebuild --print-errorlogs

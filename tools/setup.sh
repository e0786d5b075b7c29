#!/bin/sh
# Installs what building and running (setup.sh), testing (setup.sh test) or several processes (setup.sh mpi) need and this machine lacks, by apt. Swift
# and Python must be there.
set -eu

command -v swift > /dev/null || { echo "setup: Swift 6.3 or newer is needed; see swift.org" >&2; exit 1; }
command -v python3 > /dev/null || { echo "setup: Python 3.11 or newer is needed" >&2; exit 1; }

missing=""
need() { # need PACKAGE COMMAND...: the package, unless the command succeeds
    package=$1
    shift
    "$@" > /dev/null 2>&1 || missing="$missing $package"
}

has_header() { echo "#include <$1>" | cc -E -x c -; }
has_python_header() {
    python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

need gcc command -v gcc
need g++ command -v g++
need libc6-dev has_header stdio.h
need binutils command -v readelf
need python3-dev has_python_header
need python3-venv python3 -c 'import ensurepip, venv'
if test "${1-}" = test; then
    need git command -v git
    need valgrind command -v valgrind
    need libcmocka-dev test -e /usr/include/cmocka.h
    test "$(uname -m)" != x86_64 || need qemu-user command -v qemu-x86_64
    need clang command -v clang # Swift's own as a rule
    need cmake command -v cmake
    need debhelper command -v dh
    need dpkg-dev command -v dpkg-buildpackage
    need groff-base command -v groff
    need lintian command -v lintian
    need locales test -e /usr/share/i18n/locales/de_DE
    need mandoc command -v mandoc
    need pkg-config command -v pkg-config
    need strace command -v strace
fi

if test "${1-}" = mpi; then
    need openmpi-bin command -v mpirun
    need libopenmpi-dev command -v mpicc
fi

test -n "$missing" || exit 0
echo "setup: installing$missing"
as_root=""
test "$(id -u)" = 0 || as_root=sudo
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing

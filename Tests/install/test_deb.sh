#!/bin/sh
# Has lintian look at the Debian packages, installs them on this machine, uses them as programs do, and purges them.
# Run by `make test-deb`. Usage: test_deb.sh FOLDER
# shellcheck disable=SC2086 # flags are many words
set -eu
. Tests/install/programs.sh
folder=$1
packages="libpente0 libpente-dev"

lintian --allow-root --fail-on error,warning "$folder"/*.changes >&2 || fail "lintian finds fault with the packages"

if test "$(id -u)" != 0; then
    echo "test_deb: NOT INSTALLED, which needs root; lintian alone has seen the packages" >&2
    exit 0
fi
! dpkg-query --show $packages > /dev/null 2>&1 || fail "$packages are on this machine already, and would be purged"

# traces: what there is of Pente on this machine, source trees apart.
traces() {
    find /etc /usr /var/cache /var/lib -xdev -iname '*pente*' | sort
    ldconfig -p | grep pente || true
}

traces > "$scratch/before"
# shellcheck disable=SC2064
trap "dpkg --purge $packages > /dev/null 2>&1; rm -rf '$scratch'" EXIT
dpkg --install "$folder"/*.deb > "$scratch/log" 2>&1 || { cat "$scratch/log" >&2; fail "they cannot be installed"; }

test "$(pkg-config --cflags --libs pente | xargs)" = -lpente || fail "pente.pc names folders that every compiler knows"
with_pkg_config "/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)" gcc g++ c11 c++17
with_cmake gcc g++ / # whose /lib is a link

dpkg --purge libpente-dev libpente0 > /dev/null
traces | diff "$scratch/before" - || fail "the packages leave this behind"
echo "test_deb: $programs programs with the packages installed"

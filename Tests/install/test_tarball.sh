#!/bin/sh
# Unpacks the archive, moves it, uses it as programs do, and makes it again. Run by `make test-tarball`.
# Usage: test_tarball.sh ARCHIVE.tar.gz
set -eu
. Tests/install/programs.sh
archive=$1
name=$(basename "$archive" .tar.gz)

tar --list --file "$archive" | sed -n "s|^$name/\(.*[^/]\)$|\1|p" > "$scratch/files"
diff - "$scratch/files" <<END || fail "it holds other files"
LICENSE
include/pente.h
lib/cmake/Pente/PenteConfig.cmake
lib/cmake/Pente/PenteConfigVersion.cmake
lib/libpente.a
lib/libpente.so
lib/libpente.so.0
lib/libpente.so.$version
lib/pkgconfig/pente.pc
share/man/man3/pente.3
END

mkdir "$scratch/first"
tar --extract --directory "$scratch/first" --file "$archive"
mv "$scratch/first" "$scratch/second"
! grep -rlF "$(pwd)" "$scratch/second" >&2 || fail "these know the folder that they were made in"
export PKG_CONFIG_LIBDIR="$scratch/second/$name/lib/pkgconfig"
with_pkg_config "$scratch/second/$name/lib" gcc g++ c11 c++17
with_cmake gcc g++ "$scratch/second/$name"

# Somebody else, at another time.
mv "$archive" "$scratch/archive"
(umask 077 && ${MAKE:-make} --silent tarball > /dev/null)
cmp "$scratch/archive" "$archive" || fail "made again, it differs"
mv "$scratch/archive" "$archive"
echo "test_tarball: $programs programs, wherever it is unpacked"

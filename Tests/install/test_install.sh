#!/bin/sh
# Installs the library into a fresh folder, uses it as programs do, and uninstalls it. Run by `make test-install`.
# shellcheck disable=SC2046,SC2086 # flags are many words
set -eu
. Tests/install/programs.sh

# Like a packager: what will be below /opt/pente is put elsewhere first. The standard folders are there already.
stage=$scratch/stage
prefix=$stage/opt/pente
mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake" "$prefix/share/man/man3"
find "$stage" | sort > "$scratch/before"
${MAKE:-make} --silent install DESTDIR="$stage" PREFIX=/opt/pente

export PKG_CONFIG_LIBDIR="$prefix/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"
test "$(pkg-config --modversion pente)" = "$version" || fail "pente.pc has another version than the header"
test "$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --define-prefix --variable=libdir pente)" = "$prefix/lib" ||
    fail "pente.pc cannot be moved"
for compilers in "gcc g++" "clang clang++"; do
    with_pkg_config "$prefix/lib" $compilers c11 c17 c++17
    with_cmake $compilers "$prefix"
done

# A shared library that the static one is part of: it stays loaded, and needs libc alone.
static=$(pkg-config --static --libs pente)
cc -shared -o "$scratch/libguest.so" -Wl,-z,text -Wl,-Bstatic -Wl,--whole-archive $static -Wl,--no-whole-archive \
    -Wl,-Bdynamic
readelf -dW "$scratch/libguest.so" | grep -q NODELETE || fail "a library with libpente.a in it may be unloaded"
test "$(needs "$scratch/libguest.so")" = libc.so.6 || fail "libpente.a needs $(needs "$scratch/libguest.so")"
compile cc c11 "$scratch/through-guest" -I"$prefix/include" "$scratch/libguest.so"
check_static "$scratch/through-guest"

swiftc -import-objc-header "$prefix/include/pente.h" Tests/install/host.swift "$prefix/lib/libpente.a" \
    -module-cache-path "$scratch/modules" -o "$scratch/host"
test "$("$scratch/host")" = 374750 || fail "a Swift program with libpente.a in it does not run"

# The manual page: well-formed, complete, and its example runs.
page=$prefix/share/man/man3/pente.3
mandoc -T lint -W warning "$page" || fail "mandoc finds fault with the manual page"
test -z "$(groff -man -mdoc -Tutf8 -ww -z "$page" 2>&1)" || fail "groff warns of the manual page"
while read -r function; do
    grep -q "^\.Fn $function\b" "$page" || fail "the manual page does not name $function"
done < Tests/PenteCTests/exports.txt
sed -n '/^\.Bd -literal/,/^\.Ed/ { /^\.[BE]d/d; s/\\e/\\/g; p }' "$page" > "$scratch/example.c"
cc -std=c11 $warnings "$scratch/example.c" -o "$scratch/example" $(pkg-config --cflags --libs pente) \
    "-Wl,-rpath,$prefix/lib"
test "$("$scratch/example")" = "y = 2.00 x + 1.00" || fail "the manual page's example does not print what it says"

${MAKE:-make} --silent uninstall DESTDIR="$stage" PREFIX=/opt/pente
find "$stage" | sort | diff "$scratch/before" - || fail "uninstall leaves this behind"

for wrong in PREFIX=folder LIBDIR= "INCLUDEDIR=/a b"; do
    ! ${MAKE:-make} install DESTDIR="$stage" "$wrong" > /dev/null 2> "$scratch/error" || fail "$wrong is taken"
    grep -qF "${wrong%%=*} is '${wrong#*=}', not" "$scratch/error" || fail "$wrong is refused without saying so"
done
echo "test_install: $programs programs, a Swift host and the manual page"

#!/bin/sh
# What can be said of the static library without running it: the functions that it shows, and that it can become part of
# a shared library which needs libc alone. Usage: check_archive.sh [libpente.a]
set -eu
export LC_ALL=C
here=$(dirname "$0")
archive=${1:-$here/../../build/lib/libpente.a}
exports=$here/exports.txt
largest=$((3 * 472 * 1024)) # three times the shared library's
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

failed=0
complain() {
    echo "check_archive: $1" >&2
    failed=1
}

# Weak symbols count: swift_* are, and a Swift host has them too.
nm --extern-only --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort > "$scratch/global"
diff -u "$exports" "$scratch/global" >&2 || complain "exports.txt is not what the archive defines"

# All of it, with every symbol found in libc, and no relocation left in its code.
if cc -shared -nodefaultlibs -Wl,-z,defs,-z,text -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lc \
    -o "$scratch/whole.so"; then
    needed=$(readelf -dW "$scratch/whole.so" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | tr '\n' ' ')
    test "$needed" = "libc.so.6 " || complain "it needs $needed"
else
    complain "it needs more than libc, or is not position-independent"
fi

size=$(wc -c < "$archive")
test "$size" -le $largest || complain "it has $size bytes, above $largest"

test $failed = 0 && echo "check_archive: $(wc -l < "$exports") functions, $size bytes, needs ${needed% }"
exit $failed

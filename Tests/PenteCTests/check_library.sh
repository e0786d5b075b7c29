#!/bin/sh
# What can be said of the built library without running it: the functions that it shows, what it needs, how large it
# is. Usage: check_library.sh [libpente.so.0]
set -eu
export LC_ALL=C
here=$(dirname "$0")
library=${1:-$here/../../build/lib/libpente.so.0}
header=$here/../../include/pente.h
exports=$here/exports.txt
# A sixth of it came with sources of data, checkpoints and sums of gradients.
largest=$((472 * 1024))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

failed=0
complain() {
    echo "check_library: $1" >&2
    failed=1
}

# The header, the list and the library name the same functions, and the library nothing else.
sed -nE 's/^PENTE_(API|MUST_CHECK) .*\b(pente_[a-z0-9_]+)\(.*/\2/p' "$header" | sort > "$scratch/declared"
nm -D --defined-only "$library" | awk '{ print $NF }' | sort > "$scratch/exported"
diff -u "$exports" "$scratch/declared" >&2 || complain "exports.txt is not what pente.h declares"
diff -u "$exports" "$scratch/exported" >&2 || complain "exports.txt is not what the library exports"

readelf -dW "$library" > "$scratch/dynamic"
needed=$(sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' "$scratch/dynamic" | tr '\n' ' ')
test "$needed" = "libc.so.6 " || complain "it needs $needed"
soname=$(sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p' "$scratch/dynamic")
test "$soname" = libpente.so.0 || complain "its soname is '$soname'"
! grep -q TEXTREL "$scratch/dynamic" || complain "it has text relocations"
! grep -qE 'R(UN)?PATH' "$scratch/dynamic" || complain "it has a run path"
readelf -lW "$library" | grep GNU_STACK > "$scratch/stack" || complain "it has no GNU_STACK header"
! grep -q 'RWE' "$scratch/stack" || complain "its stack is executable"

strip -o "$scratch/stripped" "$library"
size=$(wc -c < "$scratch/stripped")
test "$size" -le $largest || complain "stripped it has $size bytes, above $largest"

test $failed = 0 && echo "check_library: $(wc -l < "$exports") functions, $size bytes stripped, needs ${needed% }"
exit $failed

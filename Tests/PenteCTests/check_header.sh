#!/bin/sh
# Compiles header.c as C and as C++, by each compiler that is here, with every warning an error.
# Usage: check_header.sh [include folder]
set -eu
here=$(dirname "$0")
include=${1:-$here/../../include}
warnings="-Wall -Wextra -Wpedantic -Werror -Wconversion -Wsign-conversion -Wshadow -Wundef"
tried=0
for compiler in gcc clang; do
    command -v $compiler > /dev/null || continue
    for standard in c11 c17; do
        $compiler -x c -std=$standard $warnings -Wstrict-prototypes -Wmissing-prototypes -fsyntax-only -I"$include" \
            "$here/header.c"
    done
    for standard in c++17 c++20; do
        $compiler -x c++ -std=$standard $warnings -fsyntax-only -I"$include" "$here/header.c"
    done
    tried=$((tried + 1))
done
test $tried -gt 0 || { echo "check_header: neither gcc nor clang is here" >&2; exit 1; }
echo "check_header: fine with $tried compilers"

#!/bin/sh
# No code for newer processors outside the kernels that are chosen for them: an instruction of theirs in a shared
# function would be the end of the process on an older machine. Usage: check_levels.sh UNSTRIPPED_LIBRARY
set -eu
test "$(uname -m)" = x86_64 || exit 0

# VEX and EVEX instructions (v...), and the integer ones that -march=haswell brings.
objdump -d --no-show-raw-insn "$1" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = $2 }
    $2 ~ /^(v[a-z]+|shlx|sarx|shrx|mulx|rorx|andn|bextr|pdep|pext|tzcnt|lzcnt|movbe|blsr|blsi|blsmsk|bzhi)$/ {
        if (name ~ /performAVX|PenteKernelsAVX|pente_[a-z0-9_]*_avx(2|512)/) { kernels++ }
        else if ($2 != "verr" && $2 != "verw") { print "check_levels: " $2 " in " name; bad++ }
    }
    END {
        if (!kernels) { print "check_levels: no kernels found"; exit 1 }
        print "check_levels: " kernels " instructions in the kernels of newer processors, " bad + 0 " outside"
        exit bad > 0
    }'

#!/bin/sh
# Saves under strace, which lets system calls fail or kills the process at them, and saves to a disk that is full: the old
# file is there afterwards, or the new one, whole; and after a failure no other file. check_disks.sh SAVE PYTHON
set -eu

save=$1
python=$2
work=$(mktemp -d)
trap 'umount "$work/small" 2> /dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/disk" "$work/small"
model=$work/disk/model
printf 'a,y\n1,2\n2,3\n3,5\n' > "$work/table.csv"
train() { "$@" "$python" -m pente train "$work/table.csv" --target y --epochs 1 --seed "$seed" --quiet --out "$model"; }

judge() { # judge WHAT STATUS: whole, and clean unless it was killed
    if cmp -s "$model" "$work/new"; then is=new; elif cmp -s "$model" "$work/old"; then is=old; else is=damaged; fi
    left=$(find "$work/disk" -name '.pente-*' | wc -l)
    case $2:$is:$left in
    0:new:0 | 1:old:0) ;;
    137:old:[01] | 137:new:0) rm -f "$work"/disk/.pente-* ;;
    *) echo "$1: status $2, the file is $is, $left are left"; cat "$work/said"; exit 1 ;;
    esac
    ! grep -q Traceback "$work/said" || { echo "$1:"; cat "$work/said"; exit 1; }
}

one() { # one CALL NUMBER FAULT COMMAND...
    what="$1 $2 $3"
    inject="inject=$1:$3:when=$2"
    kind=$4
    shift 3
    cp "$work/old" "$model"
    status=0
    "$@" strace -f -qq -o "$work/trace" -e "$inject" > "$work/said" 2>&1 || status=$?
    judge "$what" "$status"
    # A save may make fewer calls than that.
    if grep -q '(INJECTED)' "$work/trace" || test "$status" = 137; then tried=$((tried + 1)); else return 0; fi
    # What the library cannot do without it tells; the second fsync is the directory's, whose name comes to the disk in its
    # time. The command writes to other files, too.
    case $kind:$what:$status in
    of_library:"fsync 2 error"*:0 | of_library:*error*:1 | of_library:*KILL:137 | of_command:*) ;;
    *) echo "$what: the status is $status"; exit 1 ;;
    esac
}

of_library() { "$@" "$save" "$model" 2; }
of_command() { seed=2 train "$@"; }

tried=0
if strace -qq -e trace=none true 2> /dev/null; then
    for kind in of_library of_command; do
        if test $kind = of_library; then
            "$save" "$work/old" 1 && "$save" "$work/new" 2
        else
            seed=1 train && mv "$model" "$work/old" && seed=2 train && mv "$model" "$work/new"
        fi
        for call in fsync rename write fchmod; do
            for number in 1 2 3 4 5; do
                for fault in error=EIO error=ENOSPC signal=KILL; do one $call $number $fault $kind; done
            done
        done
    done
    test "$tried" -ge 50 || { echo "check_disks: only $tried calls failed"; exit 1; }
    echo "check_disks: $tried saves, a system call failing or killed in each"
else
    echo "check_disks: strace may trace nothing here; skipped"
fi

if mount -t tmpfs -o size=40k tmpfs "$work/small" 2> /dev/null; then
    "$save" "$work/old" 1
    head -c 20000 /dev/zero > "$work/small/model"
    cp "$work/small/model" "$work/full"
    ! "$save" "$work/small/model" 2 2> "$work/said"
    grep -q "No space left on device" "$work/said"
    cmp "$work/small/model" "$work/full"
    test "$(ls -A "$work/small")" = model
    echo "check_disks: a full disk keeps the old file"
else
    echo "check_disks: nothing may be mounted here; the full disk is skipped"
fi

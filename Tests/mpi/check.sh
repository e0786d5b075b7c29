#!/bin/bash
# Runs test_mpi's scenarios, and follow.py, with 1 to 4 ranks: check.sh TEST_MPI PYTHON
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
test_mpi=$1 python=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

launcher=(mpirun)
if mpirun --version 2>&1 | grep -q "Open MPI"; then
    launcher+=(--oversubscribe)
    test "$(id -u)" != 0 || launcher+=(--allow-run-as-root)
fi

# start RANKS COMMAND...: its output is in $scratch/output, its end within 30 seconds.
start() {
    local ranks=$1
    shift
    timeout 30 "${launcher[@]}" -n "$ranks" "$@" > "$scratch/output" 2>&1
}

# with RANKS SCENARIO...
with() {
    local ranks=$1
    shift
    start "$ranks" "$test_mpi" "$@"
}

fail() {
    cat "$scratch/output"
    echo "test-mpi: $1" >&2
    exit 1
}

for ranks in 1 2 3 4; do
    for scenario in follow in_order fit; do
        with $ranks $scenario || fail "$scenario fails with $ranks ranks"
        mv "$scratch/output" "$scratch/first"
        with $ranks $scenario || fail "$scenario fails with $ranks ranks"
        cmp "$scratch/first" "$scratch/output" || fail "$scenario has other bits in another run with $ranks ranks"
    done
    with $ranks errors || fail "errors fails with $ranks ranks"
    start $ranks "$python" "$here/follow.py" "$scratch" || fail "pente.mpi fails with $ranks ranks"
    echo "test-mpi: $ranks ranks follow one process, to the same bits every time, and fail together"
done

for ranks in 1 3 4; do
    rm -f "$scratch/run"
    status=0
    with 2 run "$scratch/run" 4 || status=$?
    test $status != 0 || fail "nobody was killed"
    test $status != 124 || fail "the others have not ended within 30 seconds"
    grep -q "rank 1 " "$scratch/output" || fail "rank 1 is not named"
    with $ranks run "$scratch/run" || fail "a run of 2 ranks does not go on with $ranks"
done
echo "test-mpi: when a rank is killed, all end; the run goes on with another number of ranks"

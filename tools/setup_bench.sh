#!/bin/sh
# Installs what `make bench` compares with: setup_bench.sh VENV TORCH. BLAS libraries by apt, the Python packages of
# benchmarks/requirements.txt and PyTorch by pip. What cannot be had is named, and the benchmark goes on without it.
set -u

venv=$1
torch=$2
packages="libopenblas0-openmp libblis4-openmp"
as_root=""
test "$(id -u)" = 0 || as_root=sudo

is_installed() { dpkg-query -W -f '${Status}' "$1" 2> /dev/null | grep -q "ok installed"; }

missing=""
for package in $packages; do
    is_installed "$package" || missing="$missing $package"
done
test -z "$missing" || $as_root apt-get update -qq
for package in $missing; do
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$package" > /dev/null ||
        echo "bench: skipped: $package cannot be installed"
done

python3 -m venv "$venv" || exit 1
while read -r package; do
    case $package in "" | \#*) continue ;; esac
    "$venv/bin/python" -m pip install --quiet --upgrade "$package" || echo "bench: skipped: $package cannot be installed"
done < benchmarks/requirements.txt
"$venv/bin/python" -m pip install --quiet "$torch" || echo "bench: skipped: $torch cannot be installed"

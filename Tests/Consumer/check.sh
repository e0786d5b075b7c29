#!/bin/sh
# A program outside the tree that has Pente's package by its version, and libpente.so besides: built for debugging and
# for release, it gives the numbers that a C program does.
# Tested is a clone of HEAD with the working tree's changes to files that git knows, tagged as pente.h numbers it.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

PENTE_VERSION=$(awk '/define PENTE_VERSION_(MAJOR|MINOR|PATCH)/ {printf "%s%s", dot, $3; dot="."}' "$root/include/pente.h")
export PENTE_VERSION
git clone --quiet "$root" pente
git -C "$root" diff --binary HEAD | git -C pente apply --index --allow-empty
git -C pente -c user.name=Pente -c user.email= commit --quiet --allow-empty --no-gpg-sign -m "the working tree"
git -C pente tag --force --no-sign "$PENTE_VERSION" > /dev/null
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$scratch/pente.insteadOf"
export GIT_CONFIG_VALUE_0=https://pente.invalid/pente.git
ln -s "$root/build/lib" lib

mkdir c debug release
cc -std=c11 -I"$root/include" -Wall -Wextra -Wpedantic -Werror "$root/Tests/Consumer/reference.c" -o reference \
    -Llib -lpente -Wl,-rpath,"$scratch/lib"
./reference c/model.safetensors > c/numbers.txt

# In folders of their own, so that two can build at once; nothing goes to the user's caches.
build() {
    cp -R "$root/Tests/Consumer" "$1/program"
    "${SWIFT-swift}" build --configuration "$1" --package-path "$1/program" --scratch-path "$1/build" \
        --cache-path "$1/cache" --config-path "$1/config" --security-path "$1/security" --disable-dependency-cache \
        > "$1/log" 2>&1
}
build debug &
debug=$!
failed=""
build release || failed=release
wait $debug || failed=debug
test -z "$failed" || { cat $failed/log >&2; exit 1; }

for configuration in debug release; do
    if grep -i warning $configuration/log >&2; then exit 1; fi
    $configuration/build/$configuration/consumer $configuration > $configuration/numbers.txt
    cmp c/numbers.txt $configuration/numbers.txt
    cmp c/model.safetensors $configuration/package.safetensors
    cmp c/model.safetensors $configuration/library.safetensors
done
echo "test-swift-package: version $PENTE_VERSION, for debugging and for release: C's numbers, bit for bit"

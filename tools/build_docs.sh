#!/bin/sh
# Makes the documentation of the Swift package, with the toolchain's own DocC: a site in build/docs, for any web server.
# Warnings are errors, and so is a public symbol without a comment, or one that the landing page does not lead to.
set -eu
cd "$(dirname "$0")/.."
swift=${SWIFT-swift}
PATH=$(dirname "$(command -v "$swift")"):$PATH  # docc is beside it
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

emit() { # emit MODULE SWIFTC_OPTION...: what others need to know of a module
    module=$1
    shift
    "${swift}c" -emit-module -parse-as-library -swift-version 6 -package-name pente -I "$scratch" \
        -Xcc -fmodule-map-file=Sources/PenteSystem/module.modulemap \
        -Xcc -fmodule-map-file=Sources/PenteVectors/module.modulemap \
        -module-name "$module" -emit-module-path "$scratch/$module.swiftmodule" "$@" Sources/"$module"/*.swift
}

emit PenteKernels
if test "$(uname -m)" = x86_64; then
    emit PenteKernelsAVX2
    emit PenteKernelsAVX512
fi
mkdir "$scratch/graphs"
emit Pente -emit-symbol-graph -emit-symbol-graph-dir "$scratch/graphs" -symbol-graph-skip-synthesized-members

rm -rf build/docs
docc convert Sources/Pente/Pente.docc --output-dir build/docs \
    --additional-symbol-graph-dir "$scratch/graphs" --fallback-display-name Pente --fallback-bundle-identifier pente \
    --fallback-default-module-kind Library --warnings-as-errors --experimental-documentation-coverage
python3 tools/check_docs.py build/docs

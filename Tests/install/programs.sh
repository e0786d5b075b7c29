# shellcheck shell=sh disable=SC2086 # flags are many words
# Programs that use an installed library, outside of its source tree: for the tests beside this file, which run in the root
# of that tree. Each is bindings/c/train.c, and must come to the numbers of the one in build/bin.
export LC_ALL=C
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
warnings="-Wall -Wextra -Wpedantic -Werror -ffp-contract=off"
version=$(awk '/define PENTE_VERSION_(MAJOR|MINOR|PATCH)/ { printf "%s%s", dot, $3; dot = "." }' include/pente.h)
programs=0

fail() {
    echo "$(basename "$0"): $1" >&2
    exit 1
}

# A folder with the sources as C and as C++, and nothing of Pente's.
mkdir "$scratch/source"
for file in train table; do
    cp bindings/c/$file.c "$scratch/source/$file.c"
    cp bindings/c/$file.c "$scratch/source/$file.cpp"
done
cp bindings/c/table.h Tests/install/CMakeLists.txt "$scratch/source"
build/bin/train-c data/linnerud.csv 3 "$scratch/expected" > /dev/null

# check_numbers PROGRAM: it trains as the one in the tree does.
check_numbers() {
    rm -f "$scratch/result"
    "$1" data/linnerud.csv 3 "$scratch/result" > /dev/null || fail "$1 does not run"
    cmp "$scratch/expected" "$scratch/result" || fail "$1 comes to other numbers"
    programs=$((programs + 1))
}

# needs FILE: the names of the libraries that it is linked to.
needs() {
    readelf -dW "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p'
}

# check_static PROGRAM: libpente.so is not among them.
check_static() {
    ! needs "$1" | grep -q libpente || fail "$1 is linked to the shared library"
    check_numbers "$1"
}

# compile COMPILER STANDARD PROGRAM FLAG...
compile() {
    compiler=$1 standard=$2 program=$3
    shift 3
    case $standard in
        c++*) (cd "$scratch/source" && $compiler -std=$standard $warnings train.cpp table.cpp -o "$program" "$@" -lm) ;;
        *) (cd "$scratch/source" && $compiler -std=$standard $warnings train.c table.c -o "$program" "$@" -lm) ;;
    esac || fail "$compiler -std=$standard $* fails"
}

# with_pkg_config LIBDIR C_COMPILER C++_COMPILER STANDARD...: linked to the shared library, to the static one, and
# without any shared library at all where libc can be had so.
with_pkg_config() {
    libdir=$1 c_compiler=$2 cxx_compiler=$3
    shift 3
    shared=$(pkg-config --cflags --libs pente)
    static=$(pkg-config --static --cflags --libs pente)
    for standard in "$@"; do
        case $standard in c++*) compiler=$cxx_compiler ;; *) compiler=$c_compiler ;; esac
        compile $compiler $standard "$scratch/shared" $shared "-Wl,-rpath,$libdir"
        needs "$scratch/shared" | grep -qx libpente.so.0 || fail "$shared links no libpente.so.0"
        check_numbers "$scratch/shared"
        compile $compiler $standard "$scratch/static" -Wl,-Bstatic $static -Wl,-Bdynamic
        check_static "$scratch/static"
        test -e "$($compiler -print-file-name=libc.a)" || continue
        compile $compiler $standard "$scratch/alone" -static $static
        test -z "$(needs "$scratch/alone")" || fail "$standard -static $static is not static"
        check_static "$scratch/alone"
    done
}

# with_cmake C_COMPILER C++_COMPILER PREFIX: all that Tests/install/CMakeLists.txt makes.
with_cmake() {
    rm -rf "$scratch/cmake"
    { CC=$1 CXX=$2 cmake -S "$scratch/source" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$3" -DPENTE_VERSION="$version" \
        -DWARNINGS="$warnings" && cmake --build "$scratch/cmake" --parallel 2; } > "$scratch/cmake.log" 2>&1 ||
        { cat "$scratch/cmake.log" >&2; fail "CMake fails with $1"; }
    grep -q "^Pente_DIR:.*=$3" "$scratch/cmake/CMakeCache.txt" || fail "CMake found another Pente"
    for program in "$scratch"/cmake/pente_c*; do check_numbers "$program"; done
    for program in "$scratch"/cmake/pente_static_c*; do check_static "$program"; done
}

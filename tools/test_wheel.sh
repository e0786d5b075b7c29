#!/bin/sh
# Tests the wheel of build/dist in fresh virtual environments with pytest and nothing else: without NumPy, and with the
# other CPythons that this machine has, as the stable ABI promises. What a wheel cannot change is left out.
set -eu
tests=bindings/python/tests

# interpreter VERSION: its path, if it is on the PATH or among pyenv's.
interpreter() {
    "python$1" -c 'print(__import__("sys").executable)' 2> /dev/null ||
        ls "$(pyenv prefix "$1" 2> /dev/null)/bin/python" 2> /dev/null
}

# check PYTHON PYTEST_ARGUMENT...
check() {
    "$1" -c 'import sys; print("test_wheel: Python", sys.version.split()[0], "without NumPy", flush=True)'
    venv=build/wheel-venv
    rm -rf "$venv"
    "$1" -m venv --without-pip "$venv"
    build/venv/bin/python -m pip --python "$venv/bin/python" install --quiet pytest build/dist/*.whl
    shift
    "$venv/bin/python" -P -m pytest -x "$tests" --ignore="$tests/test_leaks.py" "$@"
}

check build/venv/bin/python
for version in 3.12 3.13 3.14; do
    if python=$(interpreter "$version"); then
        check "$python" --ignore="$tests/test_threads.py" --ignore="$tests/test_files.py"
    else
        echo "test_wheel: skipped: there is no Python $version here"
    fi
done

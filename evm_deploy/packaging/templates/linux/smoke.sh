#!/bin/sh
# Runs the golden pair of every model, with the Python loader where its libraries are there, and with the C++ loader
# where CMake and a compiler are. It writes into a temporary folder only, and starts nothing that stays.
#
#   smoke.sh [IMAGE...]    shows the classes of the images as well
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
ran=0

if PYTHONDONTWRITEBYTECODE=1 "$python" -c 'import numpy, onnxruntime, PIL' 2>/dev/null; then
    PYTHONDONTWRITEBYTECODE=1 "$python" "$here/python/evm_model.py" --golden "$here"/models/*/
    ran=1
else
    echo "smoke.sh: the Python loader is not tried: $python has no numpy, onnxruntime or Pillow" >&2
fi

if command -v cmake >/dev/null && command -v c++ >/dev/null; then
    build=$(mktemp -d)
    trap 'rm -rf -- "$build"' EXIT
    trap 'exit 130' HUP INT TERM
    cmake -S "$here" -B "$build" >"$build.log" 2>&1 && cmake --build "$build" --parallel 2 >>"$build.log" 2>&1 || {
        cat "$build.log" >&2
        rm -f -- "$build.log"
        exit 1
    }
    rm -f -- "$build.log"
    "$build/evm_run" --golden "$here"/models/*/
    for model in "$here"/models/*/; do
        [ $# -eq 0 ] || "$build/evm_run" --top 3 "$model" "$@"
    done
    ran=1
else
    echo "smoke.sh: the C++ loader is not tried: there is no cmake, or no c++" >&2
fi

[ "$ran" -eq 1 ] || exit 127
echo "smoke.sh: passed"

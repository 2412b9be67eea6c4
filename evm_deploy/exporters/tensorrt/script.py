"""Writes how to build an engine on the device that will run it: the trtexec command, and a script that calls it."""

import shlex
from pathlib import Path

from evm_deploy.exporters.tensorrt.shapes import Profile

SCRIPT = "build_engine.sh"
# The graph defines every type. TF32 would round the operands of float32 products to 11 bits, also in the recurrence.
OPTIONS = ("--stronglyTyped", "--noTF32", "--profilingVerbosity=detailed", "--skipInference")
PLACES = ("/usr/src/tensorrt/bin",)  # where JetPack and the Debian packages put trtexec, besides PATH

_TEMPLATE = """\
#!/bin/sh
# Builds a TensorRT engine of {model} on this machine, with TensorRT 10.3 or newer. An engine runs only on the kind of
# GPU, and with the version of TensorRT, that built it.
#
#   build_engine.sh [ENGINE [OPTION...]]    writes ENGINE, by default model.engine here; OPTIONs are handed to trtexec
set -eu

bundle=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
engine=${{1:-model.engine}}
[ $# -eq 0 ] || shift

trtexec=$(command -v trtexec || true)
for place in {places}; do
    if [ -z "$trtexec" ] && [ -x "$place/trtexec" ]; then trtexec=$place/trtexec; fi
done
if [ -z "$trtexec" ]; then
    echo "build_engine.sh: trtexec is not in PATH or {places}: install TensorRT (JetPack has it)" >&2
    exit 127
fi

case $engine in /*) ;; *) engine=$PWD/$engine ;; esac
partial=$engine.$$.partial
trap 'rm -f -- "$partial"' EXIT
trap 'exit 130' HUP INT TERM
code=0
"$trtexec" --onnx="$bundle/"{model} --saveEngine="$partial" \\
    {options} \\
    "$@" || code=$?
[ "$code" -eq 0 ] || exit "$code"
mv -- "$partial" "$engine"
"""


def make_trtexec_line(model: str, profile: Profile) -> str:
    """The command, for a shell in the bundle's folder."""
    return shlex.join(["trtexec", f"--onnx={model}", "--saveEngine=model.engine", *OPTIONS, *profile.to_arguments()])


def write_script(path: Path, model: str, profile: Profile) -> None:
    """Writes the script at `path`, executable, for the file `model` beside it."""
    options = shlex.join([*OPTIONS, *profile.to_arguments()])
    text = _TEMPLATE.format(model=shlex.quote(model), options=options, places=shlex.join(PLACES))
    path.write_text(text, encoding="utf-8", newline="\n")
    path.chmod(0o755)

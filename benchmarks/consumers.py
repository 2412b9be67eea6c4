"""Which tools read our graphs: every form and opset by every tool, its result beside onnxruntime's of the same file.

python benchmarks/consumers.py [--opsets 18 20] [--pythons PYTHON ...] [--checkpoint FILE --image-size N]
A tool is run by the first of these Pythons that has it; they need nothing of evm-deploy:
pip install onnxruntime onnxsim onnxslim polygraphy onnx-graphsurgeon MNN openvino ncnn pnnx tract
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rows import save, table

import evm_deploy

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits"
LIMIT = 600  # seconds, of one tool with one file


def main() -> None:
    """Prints a Markdown table, writes benchmarks/results/consumers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opsets", nargs="*", type=int, default=[18, 20])
    parser.add_argument("--pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--checkpoint", type=Path, default=DIGITS / "digits.safetensors")
    parser.add_argument("--image-size", type=int, default=64)
    options = parser.parse_args()
    tools = find_tools(options.pythons)
    with tempfile.TemporaryDirectory() as folder:
        size = (options.image_size, options.image_size)
        files = write_forms(options.checkpoint, size, options.opsets, Path(folder))
        x = np.random.default_rng(0).standard_normal((1, 3, *size), dtype=np.float32)
        np.save(Path(folder, "x.npy"), x)
        rows = []
        for (tool, version), python in tools.items():
            found = {form: compare(python, tool, model, Path(folder)) for form, model in files.items()}
            rows.append({"tool": f"{tool} {version}", **found})
            print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows))
    save(HERE / "results" / "consumers.json", rows)


def find_tools(pythons: list[str]) -> dict[tuple[str, str], str]:
    """Every tool in every version that these Pythons have, and the Python to run it by."""
    found: dict[tuple[str, str], str] = {}
    for python in pythons:
        listed = subprocess.run([python, HERE / "run_consumer.py"], check=True, capture_output=True, text=True)
        for tool in json.loads(listed.stdout).items():
            found.setdefault(tool, python)
    return found


def write_forms(checkpoint: Path, size: tuple[int, int], opsets: list[int], folder: Path) -> dict[str, Path]:
    """Graphs of the checkpoint, by name: both forms of the scan, in float32 for every opset and in INT8."""
    files = {}
    for form in ("operator", "inlined"):
        for opset in opsets:
            options = evm_deploy.ExportOptions(image_size=size, scan_form=form, opset=opset)
            bundle = evm_deploy.export(checkpoint, folder / f"{form}{opset}", options).bundle
            files[f"{form}, opset {opset}"] = bundle.model_path
        data = evm_deploy.QuantizeOptions(scan_form=form)
        written = evm_deploy.quantize(folder / f"operator{opsets[-1]}", DIGITS / "images", folder / f"{form}8", data)
        files[f"{form}, INT8"] = written.bundle.model_path
    return files


def compare(python: str, tool: str, model: Path, folder: Path) -> float | str:
    """The largest difference from what onnxruntime gives, relative to the largest value; or that the tool fails."""
    for name, by, runs in (("expected", sys.executable, "onnxruntime"), ("found", python, tool)):
        result = folder / f"{name}.npy"
        result.unlink(missing_ok=True)
        command = [by, HERE / "run_consumer.py", runs, model, folder / "x.npy", result]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"over {LIMIT} s"
        if not result.exists():
            said = (ran.stderr.strip() or f"exit code {ran.returncode}").splitlines()[-1]
            print(f"{tool}, {model.parent.name}: {said}", file=sys.stderr)
            return "no"
    expected, found = np.load(folder / "expected.npy"), np.load(folder / "found.npy")
    if expected.shape != found.shape:
        return f"gives {found.shape}"
    return float(np.abs(found - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()

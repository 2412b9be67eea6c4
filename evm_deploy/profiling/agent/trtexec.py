"""Measures with trtexec, TensorRT's program, which builds an engine and times it without the Python package."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle_files import Unmeasurable, compute_relative_error
from .timing import AGREE, WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bundle_files import CheckedBundle
    from .request import AgentContender, AgentRequest

# The graph sets every type; TF32 would round the operands of float32 products to 11 bits.
BUILD = ("--stronglyTyped", "--noTF32", "--skipInference")
# One image at a time, including the copies to the device and back; the next starts when it is finished.
RUN = ("--exposeDMA", "--infStreams=1", "--avgRuns=1")
WARM_UP_MS = 1000
MOST_SECONDS = 3600.0
LARGEST = 256 << 20  # largest exported file, in bytes

_LOADED = re.compile(r"Engine (?:deserialized|loaded) in (\d+(?:\.\d+)?) sec")
_VERSION = re.compile(r"TensorRT version: (\S+)|\[TensorRT v(\d+)\]")


def measure(contender: AgentContender, bundle: CheckedBundle, request: AgentRequest) -> dict[str, Any]:
    """Measures a contender. Returns fields of a result. Raises Unmeasurable: there is no trtexec, or it fails."""
    program = contender.more.get("trtexec") or shutil.which("trtexec")
    if program is None:
        raise Unmeasurable("trtexec is not in PATH")
    image, expected = bundle.read_golden()
    name = bundle.manifest["inputs"][0]["name"]
    shape = "{}:{}".format(name, "x".join(map(str, image.shape)))
    dynamic = not all(isinstance(side, int) for side in bundle.manifest["inputs"][0]["shape"])
    with tempfile.TemporaryDirectory(prefix="evm-trtexec-") as text:
        folder = Path(text)
        engine = "--saveEngine={}".format(folder / "model.engine")
        shapes = [f"--{kind}Shapes={shape}" for kind in ("min", "opt", "max")] if dynamic else []
        _run([program, f"--onnx={bundle.model}", engine, *BUILD, *shapes])
        np.ascontiguousarray(image).tofile(str(folder / "input.bin"))
        said = _run([program, *_make_arguments(folder, name, [f"--shapes={shape}"] if dynamic else [], request)])
        samples = read_times(folder / "times.json")
        found = read_outputs(folder / "output.json", [spec["name"] for spec in bundle.manifest["outputs"]], expected)
    error = compute_relative_error(found, expected)
    loaded, version = _LOADED.search(said), _VERSION.search(said)
    return {
        "runtime": "trtexec",
        "golden": {
            "relative_error": error,
            "tolerance": contender.tolerance,
            "passed": error is not None and error <= contender.tolerance,
        },
        "load_ms": 1e3 * float(loaded.group(1)) if loaded else None,
        "samples_ms": samples,
        "steady": is_steady(samples),
        "versions": {"tensorrt": version.group(1) or version.group(2)} if version else {},
    }


def read_times(path: Path) -> list[float]:
    """The milliseconds of each run, including copies, from the file of `--exportTimes`. Raises Unmeasurable."""
    try:
        found = [round(float(row["latencyMs"]), 6) for row in _read(path)]
        if not found or not all(0 <= time < float("inf") for time in found):
            raise ValueError("there is none, or some are not times")
        return found
    except (LookupError, TypeError, ValueError) as error:
        raise Unmeasurable(f"trtexec exported no times ({error})") from None


def read_outputs(path: Path, names: Sequence[str], expected: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs in the file of `--exportOutput`, ordered by `names`, shaped as `expected`. Raises Unmeasurable."""
    try:
        found = {row["name"]: np.array(row["values"], np.float64) for row in _read(path)}
        return [found[name].reshape(expected[index].shape) for index, name in enumerate(names)]
    except (LookupError, TypeError, ValueError) as error:
        raise Unmeasurable(f"trtexec exported no outputs ({error})") from None


def is_steady(samples: Sequence[float]) -> bool:
    """Whether the first windows of the timed runs agree; trtexec warms up by itself for a fixed time."""
    if len(samples) < 2 * WINDOW:
        return False
    first, second = statistics.median(samples[:WINDOW]), statistics.median(samples[WINDOW : 2 * WINDOW])
    return abs(first - second) <= AGREE * max(first, second)


def _make_arguments(folder: Path, name: str, shapes: Sequence[str], request: AgentRequest) -> list[str]:
    often = (request.iterations, 0) if request.seconds is None else (1, request.seconds)
    return [
        "--loadEngine={}".format(folder / "model.engine"),
        "--loadInputs={}:{}".format(name, folder / "input.bin"),
        "--exportTimes={}".format(folder / "times.json"),
        "--exportOutput={}".format(folder / "output.json"),
        f"--iterations={often[0]}",
        f"--duration={often[1]:g}",
        f"--warmUp={WARM_UP_MS}",
        *RUN,
        *shapes,
    ]


def _read(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} is missing, or very large")
    return json.loads(path.read_text(encoding="utf-8", errors="replace"))


def _run(command: Sequence[str]) -> str:
    """Runs trtexec and returns its output. Raises Unmeasurable: it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=MOST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unmeasurable(f"trtexec cannot be run ({error})") from None
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        errors = [text for text in said.splitlines() if "[E]" in text] or said.splitlines()[-1:] or ["no message"]
        raise Unmeasurable(f"trtexec failed: {errors[0].strip()[:400]}")
    return said

"""T, S and B at 224 in INT8: size, what runs on integers, how near to float, and how fast, ours and the plain tool's.

python benchmarks/int8.py [--variants tiny small base] [--rounds 30] [--threads 1]
The weights are random (tests/golden); ranges are measured on pieces of two photographs, compared on other pieces.
"plain" is onnxruntime's own quantize_static over everything, uint8 activations, weights per channel, min-max.
"""

import argparse
import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from rows import save, table
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

import evm_deploy
from evm_deploy.bundle import Bundle, Preprocessing
from evm_deploy.preprocessing import preprocess
from evm_deploy.profiling.agent.timing import compute_quartiles, time_interleaved
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tolerances import INT8_COSINE
from evm_deploy.verification.integer_report import report_model_integers

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PREPROCESSING = Preprocessing((224, 224))
CALIBRATION, HELD_OUT = 32, 16
Images = list[npt.NDArray[np.uint8]]


def main() -> None:
    """Prints a Markdown table and writes benchmarks/results/int8_<threads>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="*", default=["tiny", "small", "base"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    pieces = photographs(CALIBRATION + HELD_OUT)
    rows = []
    for variant in arguments.variants:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(variant, Path(folder), pieces, arguments.rounds, arguments.threads)
        print(f"\n{table(rows)}", flush=True)
    save(Path(__file__).parent / "results" / f"int8_{arguments.threads}.json", rows, threads=arguments.threads)


def photographs(count: int) -> Images:
    """Pieces of two photographs, of many sizes, in random order."""
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        photograph = load_sample_images().images[i % 2]
        side = int(rng.integers(150, 400))
        y, x = (int(rng.integers(0, limit - side)) for limit in photograph.shape[:2])
        found.append(np.ascontiguousarray(photograph[y : y + side, x : x + side]))
    return found


def measure(variant: str, folder: Path, pieces: Images, rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row each for float, ours and the plain tool's; every one runs with our operator library."""
    float_ = exported(variant, folder)
    ours = evm_deploy.quantize(float_.path, pieces[:CALIBRATION], folder / "int8").bundle
    images = [np.asarray(preprocess(piece, PREPROCESSING)) for piece in pieces]
    plain = plainly(float_, images[:CALIBRATION], folder / "plain.onnx")
    models = {"float": float_.model_path, "int8": ours.model_path, "plain int8": plain}

    library = native.available()
    runners = {name: OnnxRunner(path, library=library, threads=threads) for name, path in models.items()}
    expected = [runners["float"].run(image)[0] for image in images[CALIBRATION:]]
    rows = []
    for name, path in models.items():
        found = [runners[name].run(image)[0] for image in images[CALIBRATION:]]
        report = report_model_integers(path.read_bytes(), images[0], library=library)
        size = path.stat().st_size
        rows.append(
            {
                "model": f"{variant}, {name}",
                "MB": size / 1e6,
                "of float bytes": size / float_.model_path.stat().st_size,
                "multiply-adds on integers, %": 100 * report.multiply_adds,
                "weights on integers, %": 100 * report.weights,
                "conversions": report.conversions,
                "least cosine": min(map(cosine, found, expected)),
            }
        )
    if not rows[1]["least cosine"] >= INT8_COSINE:
        raise SystemExit(f"{variant} in int8 is not near its float form: not timed")
    calls = {name: lambda runner=runner: runner.run(images[0]) for name, runner in runners.items()}
    times = {name: compute_quartiles(samples) for name, samples in time_interleaved(calls, rounds, settle=2).items()}
    for row, (low, middle, high) in zip(rows, times.values(), strict=True):
        row |= {"ms": middle, "ms p25": low, "ms p75": high, "of float": middle / times["float"][1]}
    return rows


def exported(variant: str, folder: Path) -> Bundle:
    """The float32 bundle of the golden network."""
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    arrays = golden.state_dict(GOLDEN / f"state_dict_{variant}.json")
    save_file({key: torch.from_numpy(array) for key, array in arrays.items()}, folder / "golden.safetensors")
    return evm_deploy.export(folder / "golden.safetensors", folder / "float").bundle


def plainly(float_: Bundle, images: list[npt.NDArray[Any]], out: Path) -> Path:
    """What `quantize_static` makes of the same graph."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"image": image} for image in images[:8]]  # it keeps all of them in memory

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            return self.left.pop() if self.left else None

    quantize_static(
        float_.model_path,
        out,
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,  # the faster one on x86
        weight_type=QuantType.QInt8,
    )
    return out


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Of the angle between two rows of scores."""
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


if __name__ == "__main__":
    main()

"""Core ML packages of T by precision and storage of the weights: size, agreement with PyTorch, accuracy on digits.

python benchmarks/coreml.py [--forms fp32 fp16 ...]
T has random weights, which is the worst case for few values; the digits network is trained. Programs are evaluated op
by op (`evm_deploy.runtimes.mil`), in float16 where they say so; Core ML itself runs on macOS only.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import save, table
from safetensors.torch import save_file

import evm_deploy
from evm_deploy import ExportOptions, ModelConfig
from evm_deploy.bundle import Bundle
from evm_deploy.models import EfficientVMamba
from evm_deploy.runtimes import find_runtime
from evm_deploy.tasks.agreement import compare

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
sys.path.insert(0, str(DIGITS))
from data import held_out, model_inputs  # noqa: E402

FORMS = {
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "fp16, int8 weights": {"precision": "fp16", "weights": "int8"},
    "fp16, 6-bit palette": {"precision": "fp16", "weights": "palette6"},
    "fp16, 4-bit palette": {"precision": "fp16", "weights": "palette4"},
    "fp16, 4-bit palettes of 16 channels (iOS 18)": {
        "precision": "fp16",
        "weights": "palette4",
        "deployment_target": "iOS18",
    },
}


def main() -> None:
    """Prints a Markdown table and writes benchmarks/results/coreml.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    forms = parser.parse_args().forms
    torch.manual_seed(0)
    model = EfficientVMamba(ModelConfig.variant("tiny")).eval()
    digits = evm_deploy.load(DIGITS / "digits.safetensors")
    images, labels = held_out()
    sheets = model_inputs(images)
    with torch.inference_mode():
        expected = digits(torch.from_numpy(sheets)).numpy()

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "tiny.safetensors"
        save_file(model.state_dict(), weights)
        for name in forms:
            tiny = export(weights, Path(folder) / "tiny", (224, 224), FORMS[name])
            image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
            with torch.inference_mode():
                agreement = compare(run(tiny, image), model(torch.from_numpy(image)).numpy(), scores=True)
            small = export(DIGITS / "digits.safetensors", Path(folder) / "digits", (64, 64), FORMS[name])
            scores = run(small, *np.split(sheets, len(sheets)))
            rows.append(
                {
                    "T": name,
                    "MB": sum(file.stat().st_size for file in tiny.model_path.rglob("*") if file.is_file()) / 1e6,
                    "operations": (tiny.manifest.build or {})["operations"],
                    "relative error": agreement.relative,
                    "cosine": f"{agreement.cosine:.5f}",
                    "digits right": f"{int((scores.argmax(1) == labels).sum())} of {len(labels)}",
                    "as PyTorch": f"{(scores.argmax(1) == expected.argmax(1)).mean():.2%}",
                }
            )
            print(table(rows[-1:]), flush=True)
    print(f"\n{table(rows)}")
    save(Path(__file__).parent / "results" / "coreml.json", rows)


def export(checkpoint: Path, out: Path, size: tuple[int, int], form: dict[str, str]) -> Bundle:
    """The bundle; one whose program does not agree with PyTorch, as its weights are, raises CheckFailed."""
    return evm_deploy.export(
        checkpoint, out, ExportOptions(target="coreml", image_size=size, overwrite=True, **form)
    ).bundle


def run(bundle: Bundle, *images: np.ndarray) -> np.ndarray:
    """The logits of every image, (n, classes)."""
    with find_runtime(bundle).open_bundle(bundle, library=True) as runner:
        return np.concatenate([runner.run(image)[0] for image in images])


if __name__ == "__main__":
    main()

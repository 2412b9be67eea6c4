"""The harder example on integers: with the defaults it answers as in float, laid out plainly it does not."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import quantization as plain

import evm_deploy
from evm_deploy import Bundle, ExportOptions, QuantizeOptions
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native

CALLS = Path(__file__).resolve().parents[2] / "examples" / "calls"
CALIBRATION = 32  # images

HeldOut = tuple[np.ndarray, np.ndarray]  # inputs (n, 3, 96, 96) and labels (n,)
Plainly = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("calls") / "float"
    options = ExportOptions(image_size=(96, 96), labels=CALLS / "labels.txt", verify=False)
    return evm_deploy.export(CALLS / "calls.safetensors", folder, options).bundle


@pytest.fixture(scope="module")
def answers(bundle: Bundle, held_out: HeldOut) -> np.ndarray:
    """What the float bundle takes each image for: (n,)."""
    return classes(bundle.model_path, held_out)


class Reader(plain.CalibrationDataReader):
    def __init__(self, inputs: np.ndarray) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._inputs, None)
        return None if image is None else {"image": image[None]}


@pytest.fixture
def plainly(calls: ModuleType, bundle: Bundle, held_out: HeldOut, tmp_path: Path) -> Plainly:
    """What the runtime's own `quantize_static` (min-max, weights for each channel) makes of the answers."""
    inputs = calls.model_inputs(calls.draw("calibration", CALIBRATION)[0])
    model = tmp_path / "plain.onnx"

    def answer(**arguments: Any) -> np.ndarray:
        kind = plain.QuantType.QInt8
        plain.quantize_static(bundle.model_path, model, Reader(inputs), per_channel=True, weight_type=kind, **arguments)
        return classes(model, held_out)

    return answer


def classes(model: Path, held_out: HeldOut) -> np.ndarray:
    with OnnxRunner(model, library=native.available(), threads=1) as runner:
        return np.array([runner.run(image[None])[0].argmax() for image in held_out[0]])


def test_int8_with_the_defaults_answers_as_float_does(
    calls: ModuleType, bundle: Bundle, held_out: HeldOut, answers: np.ndarray, tmp_path: Path
):
    images = list(zip(*calls.draw("calibration", CALIBRATION), strict=True))
    int8 = evm_deploy.quantize(bundle.path, images, tmp_path / "int8", QuantizeOptions(verify=False)).bundle
    found = classes(int8.model_path, held_out)
    assert (found == answers).mean() >= 0.99
    assert (found == held_out[1]).mean() >= (answers == held_out[1]).mean() - 0.01


def test_plain_int8_harms(plainly: Plainly, held_out: HeldOut, answers: np.ndarray):
    found = plainly()
    assert (found == held_out[1]).mean() <= (answers == held_out[1]).mean() - 0.02
    assert (found == answers).mean() <= 0.97


@pytest.mark.slow
def test_plain_int8_harms_between_the_first_layer_and_its_norm(
    plainly: Plainly, bundle: Bundle, held_out: HeldOut, answers: np.ndarray
):
    first = next(node.name for node in onnx.load(bundle.model_path).graph.node if node.input[0] == "image")
    output, image_and_weights = (
        plainly(nodes_to_quantize=[first], extra_options={"OpTypesToExcludeOutputQuantization": without})
        for without in ([], ["Conv"])
    )
    float_ = (answers == held_out[1]).mean()
    assert (output == held_out[1]).mean() <= float_ - 0.02
    assert (image_and_weights == held_out[1]).mean() >= float_ - 0.01

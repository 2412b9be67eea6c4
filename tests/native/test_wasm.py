"""The same kernels as the page's WebAssembly module, which Node runs."""

import base64
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.operators import OPERATORS
from evm_deploy.scan import reference
from evm_deploy.scan.inputs import QuantizedScan2DInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs, OrderedScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE
from evm_deploy.web import list_page_files
from evm_deploy.web.kernels import MODULE, build_module

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
    pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
]

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]
Case = tuple[str, list[Tensor], list[float]]  # the operator, its inputs and attributes
Run = Callable[..., list[Tensor]]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wasm") / MODULE
    path.write_bytes(build_module())
    return path


@pytest.fixture
def run(module: Path) -> Run:
    """What the cases give, one after another in one module; raises what the first that fails says."""

    def answer(*cases: Case) -> list[Tensor]:
        asked = [
            {"operator": operator, "inputs": list(map(described, inputs)), "attributes": attributes}
            for operator, inputs, attributes in cases
        ]
        script = Path(__file__).parent / "run_wasm.mjs"
        command = ["node", script, list_page_files()["kernels.mjs"], module]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=100, check=True)
        results = []
        for found in json.loads(done.stdout):
            if "error" in found:
                raise RuntimeError(found["error"])
            data = np.frombuffer(base64.b64decode(found["data"]), np.float32)
            results.append(torch.from_numpy(data.reshape(found["dims"]).copy()))
        return results

    return answer


def described(tensor: Tensor) -> dict[str, Any]:
    array = np.ascontiguousarray(tensor.numpy())
    data = base64.b64encode(array.tobytes()).decode()
    return {"type": str(array.dtype), "dims": list(tensor.shape), "data": data}


def tensors(inputs: Any) -> list[Tensor]:
    return [value for value in inputs if isinstance(value, Tensor)]


def test_the_module_is_small_and_has_every_operator_that_is_cut_out() -> None:
    data = build_module()
    assert len(data) < 100_000
    assert all(name.encode() in data for name, operator in OPERATORS.items() if operator.page)


MAPS = [(1, 14, 14, 96, 16, 3, 2), (2, 9, 12, 37, 3, 2, 2), (1, 7, 5, 16, 1, 1, 3), (1, 1, 1, 5, 16, 1, 2)]


def test_scans_of_maps(run: Run, make_scan_2d: Make, relative_error: Error) -> None:
    cases = [make_scan_2d(*shape) for shape in MAPS]
    found = run(*(("EfficientScan2D", tensors(case.arguments()), [case.step]) for case in cases))
    for case, y in zip(cases, found, strict=True):
        assert relative_error(y, case.expected()) < KERNEL_RELATIVE


def test_scans_of_maps_on_integers(run: Run, make_scan_2d: Make, relative_error: Error) -> None:
    case = make_scan_2d(1, 9, 6, 37, 3, 2, 2)
    scales = case.x_proj.abs().amax(1) / 127
    weights = (case.x_proj / scales[:, None]).round().to(torch.int8)
    middle = (torch.tensor(0.04), torch.tensor(120, dtype=torch.uint8), weights, scales)
    rest = tensors(case.arguments())[2:]
    exact = [value.double() for value in (scales, *rest)]
    expected = reference.run(QuantizedScan2DInputs(case.x.double(), float(middle[0]), 120, weights, *exact, 2))
    (y,) = run(("QuantizedEfficientScan2D", [case.x, *middle, *rest], [2]))
    assert relative_error(y, expected) < KERNEL_RELATIVE


@pytest.mark.parametrize("softplus", [False, True])
def test_selective_scans(run: Run, make_scan: Make, relative_error: Error, softplus: bool) -> None:
    cases = [
        make_scan(*shape, softplus=softplus) for shape in [(1, 4, 100, 96, 16), (2, 3, 37, 21, 5), (1, 1, 1, 3, 1)]
    ]
    zeros = [torch.zeros_like(case.D) for case in cases]
    found = run(
        *(
            ("SelectiveScan", [*tensors(case.arguments())[:6], zero if case.delta_bias is None else case.delta_bias],
             [int(softplus)])
            for case, zero in zip(cases, zeros, strict=True)
        )
    )  # fmt: skip
    for case, y in zip(cases, found, strict=True):
        assert relative_error(y, case.expected()) < KERNEL_RELATIVE


def test_ordered_scans(
    run: Run, make_ordered_scan: Callable[..., OrderedScanInputs], ordered_scan_error: Callable[..., float]
) -> None:
    cases = [make_ordered_scan(*sizes) for sizes in [(2, 50, 4, 50, 37, 1, 6, 4), (1, 130, 2, 65, 50, 16, 3, 2)]]
    for case, y in zip(cases, run(*(("OrderedScan", tensors(case), []) for case in cases)), strict=True):
        assert ordered_scan_error(y, case) < KERNEL_RELATIVE


def test_causal_convolutions(
    run: Run, make_causal_conv: Callable[..., CausalConvInputs], relative_error: Error
) -> None:
    case = make_causal_conv(2, 30, 3, 40, 21, 4)
    (y,) = run(("CausalConv", tensors(case), [4]))
    assert relative_error(y, reference.run(case)) < KERNEL_RELATIVE


@pytest.mark.parametrize("C", [48, 53])
def test_normalisations(run: Run, relative_error: Error, C: int) -> None:
    x, z = 3 * torch.randn(2, 3, 5, C) + 1, 4 * torch.randn(2, 3, 5, C)
    scale, bias = torch.randn(C), torch.randn(C)
    normed = F.layer_norm(x.double(), (C,), scale.double(), bias.double(), 1e-5)
    gated, mean = run(("GatedNorm", [x, z, scale, bias], [1e-5]), ("MeanOfNorm", [x, scale, bias], [1e-5]))
    assert relative_error(gated, normed * F.silu(z.double())) < KERNEL_RELATIVE
    assert relative_error(mean, normed.mean((1, 2), keepdim=True)) < KERNEL_RELATIVE


def test_a_lost_carry_is_seen(run: Run, make_scan_2d: Make, relative_error: Error) -> None:
    """Of rows one by one, no state passes from one to the next."""
    case = make_scan_2d(1, 8, 8, 16, 4, 2, 1)
    inputs = tensors(case.arguments())
    rows = run(*(("EfficientScan2D", [case.x[:, [row]], *inputs[1:]], [1]) for row in range(8)))
    assert relative_error(torch.cat(rows, 1), case.expected()) > 100 * KERNEL_RELATIVE


def test_wrong_inputs_are_refused(run: Run, make_scan_2d: Make) -> None:
    case = make_scan_2d(1, 4, 4, 16, 4, 2, 2)
    good = tensors(case.arguments())

    def refused(message: str, inputs: list[Tensor], step: int = 2) -> None:
        with pytest.raises(RuntimeError, match=message):
            run(("EfficientScan2D", inputs, [step]))

    refused(r"x_proj has shape \(4, 16, 9\), expected \(4, 16, 10\)", [good[0], good[1][..., :-1], *good[2:]])
    refused(r"x has shape \(4, 4, 16\), expected \(B, H, W, D\)", [good[0][0], *good[1:]])
    refused("step is -1, expected 1 to 64", good, step=-1)
    refused("inputs are missing", good[:3])
    refused("input 1 is of another type", [good[0], good[1].to(torch.int64), *good[2:]])
    order = torch.tensor([[0, 7]])
    with pytest.raises(RuntimeError, match="a token that is not there"):
        run(("CausalConv", [torch.randn(1, 4, 3), torch.randn(1, 2, 3), torch.randn(1, 3), order], [2]))
    with pytest.raises(RuntimeError, match="no operator Softmax"):
        run(("Softmax", good, []))

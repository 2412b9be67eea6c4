"""W8A8 Core ML programs: what is on integers in them, what is not, and what they compute."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.bundle import Bundle
from evm_deploy.calib.coreml import quantize as coreml
from evm_deploy.calib.coreml.layers import CoreMLLayer, find_layers, measure_shares
from evm_deploy.calib.coreml.program import ValueScale, Weights, quantise_weights, write_integers
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.calib.ranges import Range
from evm_deploy.data.samples import Samples, read_samples
from evm_deploy.errors import CheckFailed, InputError, OptionError
from evm_deploy.exporters.coreml.export import quiet
from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.program import Function, read_model
from evm_deploy.tolerances import MIL_FP32

pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="coremltools is not installed")
SIZE = (32, 32)
Floats = npt.NDArray[np.float32]


def silent(stage: str) -> None:
    """Progress that nobody reads."""


def samples(bundle: Bundle) -> Samples:
    rng = np.random.default_rng(3)
    blobs = [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(4)]
    return read_samples(blobs, bundle.manifest.preprocessing)


@pytest.fixture(scope="module")
def bundle(exported: Callable[..., Bundle]) -> Bundle:
    return exported("micro", target="coreml", precision="fp16", image_size=SIZE, deployment_target="iOS17")


@pytest.fixture(scope="module")
def quantised(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The package made of the bundle, and what was said of it."""
    path = tmp_path_factory.mktemp("quantised") / "model.mlpackage"
    facts = coreml.quantize(bundle, samples(bundle), QuantizeOptions(), path, silent)
    return path, facts


def run(package: Path, x: npt.NDArray[Any]) -> dict[str, torch.Tensor]:
    model = read_model(package)
    return Evaluator(model.functions[0], Blobs(model.folder)).run({model.functions[0].inputs[0].name: torch.tensor(x)})


def function_of(package: Path) -> Function:
    return read_model(package).functions[0]


def test_nearly_all_products_are_on_integers_and_the_scores_stay(
    bundle: Bundle, quantised: tuple[Path, dict[str, Any]]
) -> None:
    package, facts = quantised
    proof = facts["calibration"]["proof"]
    assert proof == dataclasses.asdict(measure_shares(function_of(package)))
    assert proof["multiply_adds"] > 0.95
    assert proof["weights"] > 0.95
    assert measure_shares(function_of(bundle.model_path)).on_integers == 0
    for sample in samples(bundle):
        (exact,), (found,) = (run(path, sample.input).values() for path in (bundle.model_path, package))
        assert torch.cosine_similarity(exact.float(), found.float()).item() > 0.995
        assert not torch.equal(exact, found)


def test_the_scan_stays_float(bundle: Bundle, quantised: tuple[Path, dict[str, Any]]) -> None:
    function = function_of(quantised[0])
    makers = {value.name: operation for operation in function.operations for value in operation.outputs}
    found = find_layers(function)
    delta = [layer for layer in found if layer.makes_delta]
    assert len(delta) == 2  # a scan each
    assert not any(layer.integer_input or layer.integer_weight for layer in delta)
    outputs = {layer.output for layer in found}
    for operation in function.operations:
        bound = [name for names in operation.arguments.values() for name in names if isinstance(name, str)]
        if "dequantize" in [makers[name].kind for name in bound if name in makers]:
            assert operation.outputs[0].name in outputs  # nothing else takes what was rounded
    float_ = Counter(operation.kind for operation in function_of(bundle.model_path).operations)
    kinds = Counter(operation.kind for operation in function.operations)
    assert all(kinds[kind] == float_[kind] > 0 for kind in ("exp", "softplus", "mul", "add", "matmul"))


def test_a_value_is_converted_once_for_all_layers_that_take_it(
    bundle: Bundle, quantised: tuple[Path, dict[str, Any]]
) -> None:
    chosen = [layer for layer in find_layers(function_of(bundle.model_path)) if layer.name in names(quantised)]
    roots, inputs = {layer.root for layer in chosen}, {layer.input for layer in chosen}
    assert len(roots) < len(inputs) < len(chosen)  # in one layout, and in several
    kinds = Counter(operation.kind for operation in function_of(quantised[0]).operations)
    assert (kinds["quantize"], kinds["dequantize"]) == (len(roots), len(inputs))
    assert quantised[1]["calibration"]["proof"]["conversions"] == len(roots) + len(inputs)


def names(quantised: tuple[Path, dict[str, Any]]) -> set[str]:
    return set(quantised[1]["calibration"]["layers"])


def test_what_is_never_negative_uses_all_256_levels(quantised: tuple[Path, dict[str, Any]]) -> None:
    function = function_of(quantised[0])
    makers = {value.name: operation for operation in function.operations for value in operation.outputs}
    types = {"relu": set[str](), "layer_norm": set[str]()}
    for operation in function.operations:
        if operation.kind == "quantize":
            (name,) = operation.arguments["input"]
            kind, output = operation.outputs[0].type, makers.get(str(name))
            if output is not None and output.kind in types and kind is not None and kind.dtype is not None:
                types[output.kind].add(kind.dtype.name)
    assert types == {"relu": {"uint8"}, "layer_norm": {"int8"}}


def test_a_float_layer_fails_the_proof(bundle: Bundle, quantised: tuple[Path, dict[str, Any]]) -> None:
    assert coreml.prove_integers(quantised[0], names(quantised)).on_integers >= len(names(quantised))
    count = len(names(quantised))
    with pytest.raises(CheckFailed, match=rf"{count} of {count} layers are not on integers.*classifier_head"):
        coreml.prove_integers(bundle.model_path, names(quantised) | {"classifier_head"} - {"patch_embed_0"})
    with pytest.raises(CheckFailed, match=r"1 of 1 layers .* layers_0_blocks_0_op_dt_proj"):
        coreml.prove_integers(quantised[0], {"layers_0_blocks_0_op_dt_proj"})


def test_what_is_excluded_stays_float(bundle: Bundle) -> None:
    found = coreml.select_worthwhile(find_layers(function_of(bundle.model_path)))
    kept = coreml._exclude(found, ("layers.0.blocks.0", "patch_embed_0"))
    left = {layer.name for layer in found} - {layer.name for layer in kept}
    assert "patch_embed_0" in left
    assert "layers_0_blocks_0_op_in_x" in left
    assert all(name.startswith(("patch_embed_0", "layers_0_blocks_0_")) for name in left)
    assert coreml._exclude(found, ()) == found
    with pytest.raises(OptionError, match="every layer is excluded"):
        coreml._exclude(found[:3], ("layers", "patch_embed_0"))
    with pytest.raises(OptionError, match=r"no layer or block 'patch_embed.1'.*did you mean 'patch_embed_0'"):
        coreml._exclude(found, ("patch_embed.1",))


def test_a_package_for_older_systems_is_refused(bundle: Bundle) -> None:
    model = dataclasses.replace(read_model(bundle.model_path), version=7)
    with pytest.raises(OptionError, match=r"before iOS 17 .*--deployment-target iOS17"):
        coreml._check_program(model, bundle)


def test_compressed_weights_and_several_sizes_are_refused(
    bundle: Bundle, quantised: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match="compressed already"):
        coreml._check_program(read_model(quantised[0]), bundle)
    model = read_model(bundle.model_path)
    with pytest.raises(InputError, match="several image sizes"):
        coreml._check_program(dataclasses.replace(model, functions=model.functions * 2), bundle)


# ---- layers by themselves


def saved(path: Path, target: str) -> Path:
    """x (1, 4, 6, 6) -> a depthwise convolution; beside it, of x channels last, a linear layer and a grouped product,
    and a product of what was computed.
    """
    ct: Any = coremltools()
    mb, mil = ct.converters.mil.Builder, ct.converters.mil.mil
    rng = np.random.default_rng(0)
    w = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in WEIGHTS.items()}
    with quiet():
        program = mil.Program()
        version = getattr(ct.target, target)
        with mil.Function({"x": mb.placeholder((1, 4, 6, 6), mil.types.fp32)}, version) as function:
            x = mb.mul(x=function.inputs["x"], y=np.float32(2), name="twice")
            y = mb.conv(x=x, weight=w["conv"], bias=w["bias"], groups=4, pad_type="valid", name="depthwise")
            last = mb.transpose(x=x, perm=[0, 2, 3, 1], name="last")
            z = mb.linear(x=last, weight=w["linear"], name="linear")
            g = mb.matmul(x=mb.reshape(x=z, shape=[1, 3, 12, 5]), y=w["grouped"], name="grouped")
            function.set_outputs([y, g, mb.matmul(x=g, y=g, transpose_y=True, name="computed")])
        program.add_function("main", function)
        precision = ct.precision.FLOAT32
        model = ct.convert(
            program, minimum_deployment_target=version, compute_precision=precision, skip_model_load=True
        )
        model.save(str(path))
    return path


WEIGHTS = {"conv": (4, 1, 3, 3), "bias": (4,), "linear": (5, 4), "grouped": (3, 5, 2)}
KINDS = {"iOS17": "constexpr_affine_dequantize", "iOS18": "constexpr_blockwise_shift_scale"}


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_layers_compute_on_the_rounded_numbers(tmp_path: Path, target: str) -> None:
    package = saved(tmp_path / "float.mlpackage", target)
    model = read_model(package)
    found = {layer.output: layer for layer in find_layers(model.functions[0])}
    assert list(found) == ["depthwise", "linear", "grouped"]
    assert [layer.multiply_adds for layer in found.values()] == [4 * 16 * 9, 36 * 5 * 4, 36 * 2 * 5]
    assert {layer.root for layer in found.values()} == {"twice", "linear"}
    weights = coreml._quantise_layers(model, found.values(), {})
    values = {"twice": ValueScale(0.05, "int8"), "linear": ValueScale(0.07, "int8")}
    with quiet():
        write_integers(package, values, weights).save(str(tmp_path / "int.mlpackage"))
    function = function_of(tmp_path / "int.mlpackage")
    assert all(layer.on_integers for layer in find_layers(function))
    kinds = Counter(operation.kind for operation in function.operations)
    assert (kinds["quantize"], kinds["dequantize"], kinds[KINDS[target]]) == (2, 3, 3)

    x = np.random.default_rng(1).standard_normal((1, 4, 6, 6)).astype(np.float32)
    outputs = run(tmp_path / "int.mlpackage", x)
    w = {name: torch.from_numpy(each.integers * each.scales) for name, each in weights.items()}
    rounded = (torch.from_numpy(2 * x) / 0.05).round().clamp(-128, 127) * 0.05
    bias = torch.from_numpy(np.random.default_rng(0).standard_normal(40).astype(np.float32)[36:])
    y = torch.conv2d(rounded, w["depthwise"], bias, groups=4)
    z = (torch.nn.functional.linear(rounded.permute(0, 2, 3, 1), w["linear"]) / 0.07).round().clamp(-128, 127) * 0.07
    g = torch.matmul(z.reshape(1, 3, 12, 5), w["grouped"])
    torch.testing.assert_close(outputs["depthwise"], y, rtol=0, atol=MIL_FP32)
    torch.testing.assert_close(outputs["grouped"], g, rtol=0, atol=MIL_FP32)


def layer(kind: str, shape: tuple[int, ...], groups: int = 1) -> CoreMLLayer:
    return CoreMLLayer(kind, "y", "x", "x", "w", "b", shape, groups, 1, False, False, False)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))


@given(shapes, st.sampled_from([np.float16, np.float32]), st.sampled_from([8, 9]))
def test_weights_are_off_by_half_a_step_at_most(
    sides: tuple[int, ...], dtype: type[np.floating[Any]], version: int
) -> None:
    *shape, seed = sides
    weights = np.random.default_rng(seed).standard_normal(shape).astype(dtype).astype(np.float32)
    weights[0] = 0
    weights[-1] *= 1e-3  # in float16 the scale is below the normal numbers
    for kind, numbers in (("conv", weights), ("linear", weights[..., 0, 0]), ("matmul", weights[..., 0])):
        found = quantise_weights(layer(kind, numbers.shape), numbers, dtype, version)
        assert found.integers.dtype == np.int8
        assert found.scales.dtype == dtype
        assert np.abs(found.integers.astype(int)).max(initial=0) <= 127
        scales = found.scales.astype(np.float64)
        assert (np.abs(found.integers * scales - numbers) <= scales * (0.5 + 1e-4)).all()  # nothing is clipped
        summed = tuple(axis for axis, side in enumerate(scales.shape) if side == 1)
        largest = np.abs(found.integers.astype(int)).max(summed, keepdims=True)
        reach = np.abs(numbers).max(summed, keepdims=True)
        fine = reach / 127 > 128 * np.finfo(dtype).smallest_subnormal  # smaller scales are themselves coarse
        assert (largest[fine] >= 126).all()  # each uses its levels
        outputs = numbers.shape[-1] if kind == "matmul" else numbers.shape[0]
        assert scales.size == outputs * (numbers.shape[0] if kind == "matmul" and version == 9 else 1)


@given(st.sampled_from([(6, 4, 1), (6, 1, 6), (6, 2, 2)]), st.integers(0, 2**32))
def test_the_shift_of_means_is_what_a_flat_image_shows(form: tuple[int, int, int], seed: int) -> None:
    outputs, inputs, groups = form
    rng = np.random.default_rng(seed)
    error, means = rng.standard_normal((outputs, inputs, 3, 3)), rng.standard_normal(inputs * groups)
    flat = torch.from_numpy(means).reshape(1, -1, 1, 1).expand(1, -1, 3, 3)
    expected = torch.conv2d(flat, torch.from_numpy(error), groups=groups).flatten().numpy()
    found = coreml._compute_shift(layer("conv", error.shape, groups), error, means)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_conversions_span_their_range() -> None:
    assert ValueScale.for_range(Range(-127.0, 1.0)) == ValueScale(1.0, "int8")
    assert ValueScale.for_range(Range(0.0, 255.0)) == ValueScale(1.0, "uint8")
    assert ValueScale.for_range(Range(0.0, 0.0)).scale > 0


def test_a_layer_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    package = saved(tmp_path / "float.mlpackage", "iOS17")
    nothing = Weights(np.zeros((5, 4), np.int8), np.ones((5, 1), np.float32))
    with quiet(), pytest.raises(CheckFailed, match="does not find the layer other"):
        write_integers(package, {}, {"other": nothing})

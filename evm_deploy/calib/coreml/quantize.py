"""W8A8 for Core ML: ranges measured with our evaluator, conversions and 8-bit weights written into the program.

Activations are symmetric, as in Core ML's own tools: int8 around 0, or uint8 from 0 if a value is never negative.
The scan's Δ, A, exp and state stay as they are.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from evm_deploy.bundle import Bundle
from evm_deploy.calib.collect import collect_statistics
from evm_deploy.calib.coreml.layers import CHANNELS, CoreMLLayer, Shares, find_layers, measure_shares
from evm_deploy.calib.coreml.program import ValueScale, Weights, quantise_weights, write_integers
from evm_deploy.calib.onnx.layers import LEAST_WEIGHTS, LEAST_WORK
from evm_deploy.calib.plots import plot_ranges
from evm_deploy.calib.quantize_options import QuantizeOptions, check_excluded, check_some_left
from evm_deploy.calib.ranges import Range, choose_range
from evm_deploy.calib.statistics import TensorStatistics
from evm_deploy.data.samples import Samples
from evm_deploy.errors import CheckFailed, InputError, OptionError
from evm_deploy.exporters.coreml.export import quiet
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.plan import make_plan
from evm_deploy.runtimes.mil.program import Function, MilModel, read_model

IOS17 = 8  # the specification that brought `quantize` and `dequantize`
Progress = Callable[[str], None]


def quantize(
    bundle: Bundle, samples: Samples, options: QuantizeOptions, path: Path, progress: Progress
) -> dict[str, Any]:
    """Writes the package at `path`. Returns the facts of the float export, and under "calibration" what was done.

    Raises OptionError: the bundle is for a system without these operations, or a name to exclude is unknown;
    InputError: the bundle has several image sizes, or its weights are compressed; CheckFailed: a layer does not use
    integers in the written package.
    """
    model = read_model(bundle.model_path)
    function = _check_program(model, bundle)
    candidates = select_worthwhile(find_layers(function))
    chosen = _exclude(candidates, options.exclude)
    tap = ProgramTap(model, {layer.input for layer in chosen})
    statistics = _collect_statistics(bundle, tap, chosen, samples, options, progress)
    ranges = {name: _choose_range(found, options) for name, found in statistics.items()}
    if options.plots is not None:
        plot_ranges(statistics, ranges, Path(options.plots), options.method)

    progress("writing integers")
    values = {layer.root: ValueScale.for_range(ranges[layer.input]) for layer in chosen}
    means = {name: found.channel_mean for name, found in statistics.items()} if options.bias_correction else {}
    weights = _quantise_layers(model, chosen, means)
    with quiet():
        write_integers(bundle.model_path, values, weights).save(str(path))
    found = prove_integers(path, {layer.name for layer in chosen})
    written = read_model(path).functions[0].operations
    facts = {
        "method": options.method,
        "percentile": options.percentile if options.method == "percentile" else None,
        "excluded": list(options.exclude),
        "equalised": {},
        "bias_correction": options.bias_correction,
        "layers": [layer.name for layer in chosen],
        "float_layers": list(found.floats),
        "ranges": {name: [each.low, each.high] for name, each in ranges.items()},
        "proof": dataclasses.asdict(found),
    }
    changed = {"weights": "int8", "operations": sum(operation.kind != "const" for operation in written)}
    return (bundle.manifest.build or {}) | changed | {"calibration": facts}


def check(bundle: Bundle, source: Bundle) -> dict[str, Any]:
    """Describes what uses integers in the saved package; `quantize` has already compared it with the chosen layers."""
    found = measure_shares(read_model(bundle.model_path).functions[0])
    said = f"{found.multiply_adds:.1%} of the multiply-adds and {found.weights:.1%} of the weights of convolutions and"
    notes = [f"{said} matrix products on integers, {found.conversions} conversions"]
    return {"notes": [*notes, "the scales of channels are as they were: on Core ML they are not equalised"]}


def prove_integers(package: Path, names: Collection[str]) -> Shares:
    """Measures how much of the saved package uses integers. Raises CheckFailed unless all layers in `names` do."""
    found = measure_shares(read_model(package).functions[0])
    if wrong := sorted(set(names) & set(found.floats)):
        raise CheckFailed(
            f"{len(wrong)} of {len(names)} layers are not on integers in the Core ML program, the first is {wrong[0]}.",
            "this is a fault of evm-deploy or of this coremltools: report it with the output of `evm-deploy doctor`.",
        )
    return found


def select_worthwhile(found: Iterable[CoreMLLayer]) -> list[CoreMLLayer]:
    """The layers that do enough of the network's work, or hold enough of its weights, to be worth the conversions."""
    found = list(found)
    work, size = sum(layer.multiply_adds for layer in found), sum(map(_count_weights, found))
    return [
        layer
        for layer in found
        if not layer.makes_delta
        and (layer.multiply_adds >= LEAST_WORK * work or _count_weights(layer) >= LEAST_WEIGHTS * size)
    ]


class ProgramTap:
    """Evaluates a program op by op and returns the watched values by name. Raises BundleError if it cannot."""

    def __init__(self, model: MilModel, watched: Collection[str]) -> None:
        function = model.functions[0]
        outputs = (*function.outputs, *sorted(set(watched) - set(function.outputs)))
        self._input = function.inputs[0].name
        self._image = function.features[self._input].kind == "image"
        self._watched = set(watched)
        self._evaluator = Evaluator(dataclasses.replace(function, outputs=outputs), Blobs(model.folder))

    def __call__(self, image: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[np.float32]]:
        """image: float32 (1, 3, H, W) or, baked, uint8 (1, H, W, 3)."""
        x = Tensor(image.astype(np.float32))
        x = x.permute(0, 3, 1, 2).contiguous() if self._image else x
        found = self._evaluator.run({self._input: x})
        return {name: found[name].float().numpy() for name in self._watched}


def _check_program(model: MilModel, bundle: Bundle) -> Function:
    if model.version < IOS17:
        raise OptionError(
            f"{bundle.path} is for systems before iOS 17 and macOS 14, which have no integer activations.",
            "export it with `--deployment-target iOS17` or macOS14; for 8-bit weights alone, with `--weights int8`.",
        )
    if len(model.functions) > 1:
        raise InputError(f"{bundle.path} has several image sizes.", "export each in a bundle of its own.")
    (function,) = model.functions
    if any(operation.is_constant and operation.kind != "const" for operation in function.operations):
        raise InputError(
            f"the weights of {bundle.path} are compressed already.", "export it with `--weights float`, then quantize."
        )
    return function


def _exclude(candidates: list[CoreMLLayer], excluded: tuple[str, ...]) -> list[CoreMLLayer]:
    """The layers that are not excluded by name, or by the name of their block; dots may be underscores."""
    names = [layer.name for layer in candidates]
    blocks = {name[: match.start()] for name in names for match in re.finditer("_", name)}
    wanted = {re.sub(r"\W", "_", name): name for name in excluded}
    check_excluded(wanted, {*names, *blocks})
    return check_some_left(
        [each for each in candidates if not any(f"{each.name}_".startswith(f"{name}_") for name in wanted)]
    )


def _collect_statistics(
    bundle: Bundle,
    tap: ProgramTap,
    chosen: Iterable[CoreMLLayer],
    samples: Samples,
    options: QuantizeOptions,
    progress: Progress,
) -> dict[str, TensorStatistics]:
    axes = {layer.input: CHANNELS[layer.kind] for layer in chosen}
    files = sorted((name, digest) for name, digest in bundle.manifest.files.items() if ".mlpackage/" in name)
    key = hashlib.sha256(repr([files, sorted(axes.items())]).encode()).hexdigest()
    cache = None if options.cache is None else Path(options.cache) / "ranges.npz"
    return collect_statistics(tap, axes, samples, cache=cache, key=key, progress=progress)


def _choose_range(found: TensorStatistics, options: QuantizeOptions) -> Range:
    """Chooses a range from 0 if the value is never negative, and a symmetric range otherwise."""
    return choose_range(found, options.method, symmetric=found.low < 0, percentile=options.percentile)


def _quantise_layers(
    model: MilModel, chosen: Iterable[CoreMLLayer], means: Mapping[str, npt.NDArray[np.float64]]
) -> dict[str, Weights]:
    """Quantises the weights of each layer, by the name of its output, with scales of the program's float type."""
    constants = make_plan(model.functions[0], Blobs(model.folder)).constants
    found = {}
    for layer in chosen:
        weight = constants[layer.weight]
        assert isinstance(weight, Tensor)
        floats, dtype = weight.float().numpy(), weight.numpy().dtype
        stored = quantise_weights(layer, floats, dtype, model.version)
        bias = constants.get(layer.bias or "")
        if isinstance(bias, Tensor) and layer.input in means:
            error = stored.integers * stored.scales.astype(np.float64) - floats
            moved = bias.double().numpy() - _compute_shift(layer, error, means[layer.input])
            stored = dataclasses.replace(stored, bias=moved.astype(dtype))
        found[layer.output] = stored
    return found


def _compute_shift(
    layer: CoreMLLayer, error: npt.NDArray[np.float64], means: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How much an error of the weights (O, I, ...) shifts the mean of each output channel, apart from the border.

    means: the mean of each input channel. (Nagel et al., arXiv 1906.04721, section 4.2.)
    """
    by_input = error.reshape(*error.shape[:2], -1).sum(2)  # (O, C / groups)
    by_group = by_input.reshape(layer.groups, -1, by_input.shape[1])
    return np.asarray(np.einsum("goi,gi->go", by_group, means.reshape(layer.groups, -1)).reshape(-1))


def _count_weights(layer: CoreMLLayer) -> int:
    return int(np.prod(layer.weight_shape))

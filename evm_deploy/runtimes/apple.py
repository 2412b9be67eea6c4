"""Core ML itself, through coremltools on macOS: predictions, and the device that each operation is planned for."""

import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from evm_deploy.errors import BundleError, check_choice
from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil.interface import EntryPoint, choose_entry_point
from evm_deploy.runtimes.mil.problems import make_package_error, take_first_line

COMPUTE_UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
DEVICES = {
    "MLNeuralEngineComputeDevice": "Neural Engine",
    "MLGPUComputeDevice": "GPU",
    "MLCPUComputeDevice": "CPU",
}


class FrameworkRunner:
    """The package on Core ML, with the compute units that the framework may use.

    Raises OptionError: no such units. Loading and running raise BundleError where Core ML refuses.
    """

    name = "core ml"
    untimed = None

    def __init__(self, package: Path, entries: Sequence[EntryPoint], units: str = "ALL") -> None:
        check_choice("choice of compute units", units, COMPUTE_UNITS)
        self._package, self._entries, self._units = package, entries, units
        self._models: dict[str, Any] = {}
        self._load(entries[0])

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the manifest, for float32 (1, 3, H, W) or, baked, uint8 (1, H, W, 3).

        The channels are in the model's order; Core ML, which is given an RGB image, puts them in it again.
        """
        entry = choose_entry_point(self._entries, image)
        given = make_picture(image, entry.input.dtype) if entry.input.kind == "image" else image
        try:
            found = self._load(entry).predict({entry.input.name: given})
            return [_read_output(found[feature.name], entry) for feature in entry.outputs]
        except BundleError:
            raise
        except Exception as error:  # the framework's own, of no common base
            raise make_package_error(f"Core ML cannot run the model: {take_first_line(error)}") from error

    def compute_plan(self) -> dict[str, int]:
        """How many operations of the default function Core ML would run on each device, constants left out.

        Raises BundleError: this version of macOS gives no plan (it does from 14.4 on).
        """
        ct = coremltools()
        try:
            compiled = self._load(self._entries[0]).get_compiled_model_path()
            units = getattr(ct.ComputeUnit, self._units)
            plan = ct.models.compute_plan.MLComputePlan.load_from_path(compiled, units)
        except Exception as error:  # as above
            raise BundleError(
                f"Core ML gives no compute plan: {take_first_line(error)}.", "use macOS 14.4 or newer."
            ) from error
        return count_devices(plan, self._entries[0].function.name)

    def close(self) -> None:
        """Frees the models."""
        self._models.clear()

    def __enter__(self) -> "FrameworkRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def _load(self, entry: EntryPoint) -> Any:
        """The coremltools model of a function, which is named only where there are several."""
        ct, name = coremltools(), entry.function.name
        if name not in self._models:
            function = name if len(self._entries) > 1 else None
            units = getattr(ct.ComputeUnit, self._units)
            try:
                model = ct.models.MLModel(str(self._package), compute_units=units, function_name=function)
            except Exception as error:  # as above
                raise make_package_error(f"Core ML cannot load the model: {take_first_line(error)}") from error
            self._models[name] = model
        return self._models[name]


def make_picture(image: npt.NDArray[np.generic], colours: str) -> Image.Image:
    """The picture that an image (1, H, W, 3) is, whose channels are in the order `colours`, "RGB" or "BGR"."""
    return Image.fromarray(image[0] if colours == "RGB" else np.ascontiguousarray(image[0, :, :, ::-1]))


def count_devices(plan: Any, function: str) -> dict[str, int]:
    """The operations of `function` by the device that an `MLComputePlan` prefers for each.

    Those for which it names none are counted under "none"; constants are left out.
    """
    counts: Counter[str] = Counter()
    for operation in plan.model_structure.program.functions[function].block.operations:
        if operation.operator_name.rpartition(".")[2] == "const":  # "ios16.conv" is conv
            continue
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        device = type(usage.preferred_compute_device).__name__ if usage else "none"
        counts[DEVICES.get(device, device)] += 1
    return dict(counts.most_common())


def _read_output(value: Any, entry: EntryPoint) -> npt.NDArray[np.float32]:
    """An output as it is; of a classifier's dictionary the probabilities in the order of the labels, (1, classes)."""
    if isinstance(value, dict):
        value = [[value[label] for label in entry.labels]]
    found = np.asarray(value)
    return found if np.issubdtype(found.dtype, np.integer) else found.astype(np.float32)

"""The operators as IPluginV3 in Python, for TensorRT before 10.9 and TensorRT-RTX: Python launches the kernel."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evm_deploy.cuda import driver
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.errors import MissingToolError
from evm_deploy.exporters.tensorrt.plugins.operators import PLUGINS, TYPES, VERSION, read_sides
from evm_deploy.operators import DOMAIN, Operator
from evm_deploy.operators.operator import Shape

RTX_LIBRARY = "libtensorrt_rtx.so"


@contextlib.contextmanager
def register_operators(trt: Any) -> Iterator[None]:
    """Registers a creator for each operator, and removes them afterwards."""
    _check_loadable(trt)
    registry = trt.get_plugin_registry()
    creators = [_make_creator(trt, operator) for operator in PLUGINS]
    for creator in creators:
        registry.register_creator(creator, DOMAIN)
    try:
        yield
    finally:
        for creator in creators:
            registry.deregister_creator(creator)


def _check_loadable(trt: Any) -> None:
    """TensorRT-RTX opens itself by this name to add a plugin, and ends the process where it cannot."""
    if trt.__name__ != "tensorrt_rtx":
        return
    try:
        ctypes.CDLL(RTX_LIBRARY)
    except OSError:
        raise MissingToolError(
            f"a plugin in {trt.__name__} needs {RTX_LIBRARY}, which is not in the path of the loader.",
            f"put a link of that name to {RTX_LIBRARY}.1 of the package tensorrt_rtx_libs into a folder, and start "
            "again with that folder in LD_LIBRARY_PATH.",
        ) from None


def _make_creator(trt: Any, operator: Operator) -> Any:
    plugin = _make_plugin(trt, operator)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        """Makes the plugin of a node, or of an engine that is loaded, from its fields."""

        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_namespace, self.plugin_version = operator.name, DOMAIN, VERSION
            self.field_names = trt.PluginFieldCollection([_make_field(trt, name, []) for name in operator.attributes])
            self.made: list[Any] = []  # the library borrows them

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            found = {field.name: field.data for field in fields}
            self.made.append(plugin(*(int(np.asarray(found[each]).reshape(-1)[0]) for each in operator.attributes)))
            return self.made[-1]

    return Creator()


def _make_plugin(trt: Any, operator: Operator) -> type[Any]:
    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    rows = {trt.float32: "float32", trt.float16: "float16"}
    assert operator.gpu is not None
    plan, sizes, result = operator.gpu.plan, operator.gpu.sizes, operator.gpu.result
    fixed = [
        getattr(trt, TYPES[type]) if type in TYPES else None for type in (*operator.inputs.values(), operator.result)
    ]

    @functools.cache
    def plan_once(shapes: tuple[Shape, ...], dtype: str, sm_count: int, *values: int) -> LaunchPlan:
        return plan(shapes, dtype, sm_count, **dict(zip(operator.attributes, values, strict=True)))

    class Plugin(*bases):  # type: ignore[misc]
        """One node: float32 or float16 rows in, the same out where the row says no other, on the engine's stream."""

        def __init__(self, *values: int) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = operator.name, DOMAIN, VERSION
            self.num_outputs = 1
            self.values = values

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def get_output_data_types(self, given: Sequence[Any]) -> list[Any]:
            return [given[0] if fixed[-1] is None else fixed[-1]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, builder: Any) -> list[Any]:
            return [trt.DimsExprs(read_sides(result, operator.inputs, lambda i, axis: inputs[i][axis]))]

        def supports_format_combination(self, place: int, tensors: Sequence[Any], inputs: int) -> bool:
            tensor, first = tensors[place].desc, tensors[0].desc.type
            wanted = first if fixed[place] is None else fixed[place]
            fits = first in rows and tensor.type == wanted
            return bool(fits and tensor.format == trt.TensorFormat.LINEAR)

        def configure_plugin(self, inputs: Any, outputs: Any) -> None:
            """Nothing to choose before the shapes are known."""

        def on_shape_change(self, inputs: Any, outputs: Any) -> None:
            """The launch is planned for the shapes it gets."""

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            fields = zip(operator.attributes, self.values, strict=True)
            return trt.PluginFieldCollection([_make_field(trt, name, [value]) for name, value in fields])

        def clone(self) -> Any:
            return Plugin(*self.values)

        def enqueue(
            self,
            described: Sequence[Any],
            results: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            shapes = tuple(tuple(tensor.dims) for tensor in described)
            planned = plan_once(shapes, rows[described[0].type], driver.count_multiprocessors(), *self.values)
            lengths = read_sides(sizes, operator.inputs, lambda i, axis: shapes[i][axis])
            driver.enqueue(planned, inputs, lengths, outputs[0], stream)

    return Plugin


def _make_field(trt: Any, name: str, values: Sequence[int]) -> Any:
    return trt.PluginField(name, np.array(values, np.int32), trt.PluginFieldType.INT32)

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
from evm_deploy.exporters.tensorrt.plugins.operators import PLUGINS, SIZES, VERSION
from evm_deploy.operators import DOMAIN, Operator
from evm_deploy.operators.operator import STATE, Shape

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
    (attribute,) = operator.attributes

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        """Makes the plugin of a node, or of an engine that is loaded, from its fields."""

        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_namespace, self.plugin_version = operator.name, DOMAIN, VERSION
            self.field_names = trt.PluginFieldCollection([_make_field(trt, attribute, [])])
            self.made: list[Any] = []  # the library borrows them

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            found = {field.name: field.data for field in fields}
            self.made.append(plugin(int(np.asarray(found[attribute]).reshape(-1)[0])))
            return self.made[-1]

    return Creator()


def _make_plugin(trt: Any, operator: Operator) -> type[Any]:
    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    types = {trt.float32: "float32", trt.float16: "float16"}
    (name,), states, plan = operator.attributes, operator.places(STATE), operator.plan
    assert plan is not None

    @functools.cache
    def plan_once(shapes: tuple[Shape, ...], attribute: int, dtype: str, sm_count: int) -> LaunchPlan:
        return plan(shapes, attribute, dtype, sm_count)

    class Plugin(*bases):  # type: ignore[misc]
        """One node: float32 or float16 rows in, the same out, on the stream of the engine."""

        def __init__(self, attribute: int) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = operator.name, DOMAIN, VERSION
            self.num_outputs = 1
            self.attribute = attribute

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def get_output_data_types(self, given: Sequence[Any]) -> list[Any]:
            return [given[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, builder: Any) -> list[Any]:
            return [trt.DimsExprs(inputs[0])]

        def supports_format_combination(self, place: int, tensors: Sequence[Any], inputs: int) -> bool:
            tensor, rows = tensors[place].desc, tensors[0].desc
            wanted = trt.float32 if place in states else rows.type
            return bool(tensor.format == trt.TensorFormat.LINEAR and tensor.type == wanted and tensor.type in types)

        def configure_plugin(self, inputs: Any, outputs: Any) -> None:
            """Nothing to choose before the shapes are known."""

        def on_shape_change(self, inputs: Any, outputs: Any) -> None:
            """The launch is planned for the shapes it gets."""

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([_make_field(trt, name, [self.attribute])])

        def clone(self) -> Any:
            return Plugin(self.attribute)

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
            planned = plan_once(shapes, self.attribute, types[described[0].type], driver.count_multiprocessors())
            driver.enqueue(planned, inputs, [shapes[0][axis] for axis in SIZES], outputs[0], stream)

    return Plugin


def _make_field(trt: Any, name: str, values: Sequence[int]) -> Any:
    return trt.PluginField(name, np.array(values, np.int32), trt.PluginFieldType.INT32)

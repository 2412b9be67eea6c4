"""Our kernels as plugins: real ones in TensorRT-RTX, those of newer versions against a stand-in of their module."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from evm_deploy import Bundle, ExportOptions
from evm_deploy.cuda import compile as compiler
from evm_deploy.cuda.driver import Gpu
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.errors import MissingToolError
from evm_deploy.exporters import onnx as exporter
from evm_deploy.exporters.record import make_manifest
from evm_deploy.exporters.tensorrt import plugins
from evm_deploy.exporters.tensorrt.plugins import aot, operators, v3
from evm_deploy.graph import functions
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.module import open_module
from evm_deploy.operators import OPERATORS, Operator
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native


def test_the_marks_on_the_nodes_change_no_other_runtime(golden: Any, exported: Callable[..., Bundle]) -> None:
    plain = onnx.load(exported("micro").model_path)
    marked = onnx.load_from_string(plain.SerializeToString())
    assert operators.mark_scans(marked) == 2
    image = golden.image(64, 64).numpy()
    for library in [False, True] if native.available() else [False]:
        with OnnxRunner(plain.SerializeToString(), library=library) as a:
            with OnnxRunner(marked.SerializeToString(), library=library) as b:
                np.testing.assert_array_equal(a.run(image)[0], b.run(image)[0])


def test_only_the_bodies_with_a_plugin_are_left_out(exported: Callable[..., Bundle]) -> None:
    rest = onnx.load_from_string(operators.remove_bodies(exported("micro").model_path.read_bytes()))
    assert {body.name for body in rest.functions} == {"GatedNorm", "MeanOfNorm"}


PARSE = """
import sys, onnx, tensorrt_rtx as trt
from evm_deploy.exporters.tensorrt import build, layers, plugins
from evm_deploy.exporters.tensorrt.shapes import Profile
shape = (1, 3, 64, 64)
with open(sys.argv[1], "rb") as file:
    data = file.read()
profile = Profile("image", shape, shape, shape)
request = build.EngineRequest(data, sys.argv[2], profile, ("8.6",), int(sys.argv[3]), True)
engine = build.build_engine(trt, request)
types = sorted(layer.outputs[0] for layer in engine.layers if layer.kind == "custom_layer")
logger = build.make_logger(trt)
with plugins.register_plugins(trt, request) as graph:
    network = build.parse_graph(trt, logger, graph)[1]
    found = [network.get_layer(i) for i in range(network.num_layers)]
    shapes = [tuple(layer.get_output(0).shape) for layer in found if layer.type.name == "PLUGIN_V3"]
network = build.parse_graph(trt, logger, data)[1]  # taken back: the function serves again
functions = sum(network.get_layer(i).type.name == "PLUGIN_V3" for i in range(network.num_layers))
print((types, sorted(shapes), functions))
"""
# Of each network: its scans, the shapes of what its plugins give, and how many of these are float32 in float16.
PLUGINS = {
    "micro": (2, [(1, 8, 8, 64), (1, 16, 16, 32)], 0),
    "vim_micro": (4, [(1, 2, 17, 64)] * 8, 4),
    "vmamba_v2_micro": (5, [(1, 4, 4, 128), (1, 4, 16, 64), (1, 4, 16, 64), (1, 4, 64, 32), (1, 4, 256, 16)], 5),
}


def make_graph(golden: Any, exported: Callable[..., Bundle], name: str, precision: str) -> onnx.ModelProto:
    if name == "micro":
        return onnx.load(exported(name, precision=precision).model_path)
    family = next(family for family in FAMILIES if family.title.lower() == name.partition("_")[0])
    network = family.network(family.infer_config(golden.state_dict(name), None)).eval()
    options = ExportOptions(image_size=(64, 64), precision=precision)
    opened = open_module(network)
    return exporter.export(opened, make_manifest(opened, options), options)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("micro", "fp16"),
        pytest.param("micro", "fp32", marks=pytest.mark.slow),
        pytest.param("vim_micro", "fp16", marks=pytest.mark.slow),
        pytest.param("vmamba_v2_micro", "fp16", marks=pytest.mark.slow),
    ],
)
def test_python_plugins_build_into_an_engine(
    golden: Any, exported: Callable[..., Bundle], tmp_path: Path, name: str, precision: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    libraries = pytest.importorskip("tensorrt_rtx_libs")
    (tmp_path / v3.RTX_LIBRARY).symlink_to(Path(libraries.__file__).parent / f"{v3.RTX_LIBRARY}.1")
    scans, shapes, singles = PLUGINS[name]
    proto = make_graph(golden, exported, name, precision)
    assert operators.mark_scans(proto) == scans
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(tmp_path / "model.onnx"), precision, str(scans)],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    halves = 0 if precision == "fp32" else len(shapes) - singles
    types = ["float16"] * halves + ["float32"] * (len(shapes) - halves)
    assert done.stdout.splitlines()[-1] == repr((types, shapes, 0))


def test_rtx_that_cannot_find_itself_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(v3, "RTX_LIBRARY", "libtensorrt_rtx_that_is_not.so")
    with pytest.raises(MissingToolError, match="LD_LIBRARY_PATH"), v3.register_operators(trt):
        pass


def test_what_the_kernels_take() -> None:
    """Rows of one type, states float32, all of them in the order that they are declared in."""
    trt = pytest.importorskip("tensorrt_rtx")
    plugin = v3._make_plugin(trt, OPERATORS["EfficientScan2D"])(2)

    def takes(place: int, rows: Any, kind: Any, format: Any = trt.TensorFormat.LINEAR) -> bool:
        tensors = [SimpleNamespace(desc=SimpleNamespace(type=rows, format=trt.TensorFormat.LINEAR)) for _ in range(7)]
        tensors[place] = SimpleNamespace(desc=SimpleNamespace(type=kind, format=format))
        return bool(plugin.supports_format_combination(place, tensors, 6))

    x, dt_proj, A, y = 0, 2, 4, 6
    for rows in (trt.float32, trt.float16):
        assert takes(x, rows, rows)
        assert takes(dt_proj, rows, rows)
        assert takes(A, rows, trt.float32)
        assert takes(y, rows, rows)
        assert not takes(y, rows, rows, trt.TensorFormat.HWC)
    assert not takes(A, trt.float16, trt.float16)
    assert not takes(y, trt.float16, trt.float32)
    assert not takes(x, trt.int32, trt.int32)


@pytest.mark.parametrize(
    ("name", "version", "compiled"),
    [
        ("tensorrt", "10.3.0.26", False),
        ("tensorrt", "10.9.0", True),
        ("tensorrt", "11.0", True),
        ("tensorrt_rtx", "1.7", False),
    ],
)
def test_which_kind_of_plugin(name: str, version: str, compiled: bool) -> None:
    assert plugins.has_aot(SimpleNamespace(__name__=name, __version__=version)) is compiled


NODES = ("OrderedScan", "CausalConv", "OrderedScan", "GatedNorm")


class Desc:
    """A TensorDesc as far as we use one; the axes in `open` are known only when the engine runs."""

    def __init__(self, shape: tuple[int, ...], dtype: str, open: tuple[int, ...] = ()) -> None:
        self.dtype = dtype
        self.shape_expr = [Side(n, axis not in open) for axis, n in enumerate(shape)]


class Side:
    """A ShapeExpr."""

    def __init__(self, value: int, known: bool) -> None:
        self.value, self.is_constant = value, known

    def constant_value(self) -> int:
        assert self.is_constant
        return self.value

    def __mul__(self, other: int) -> int:
        return self.value * other


class Params:
    """KernelLaunchParams."""

    grid_x = grid_y = grid_z = block_x = block_y = block_z = 1
    shared_mem = 0


class Sizes(list[Any]):
    """SymIntExprs of SymInt32."""

    from_tuple = classmethod(lambda cls, values: cls(values))


TRT = ModuleType("tensorrt")
TRT.float16, TRT.float32, TRT.int64 = "half", "float", "int64"  # type: ignore[attr-defined]


class Module:
    """The module `tensorrt.plugin`: it reads signatures as the real one does."""

    TensorDesc, KernelLaunchParams, SymExprs, SymIntExprs = Desc, Params, Sizes, Sizes

    def __init__(self) -> None:
        self.described: dict[str, Any] = {}
        self.implemented: dict[str, Any] = {}

    @staticmethod
    def from_shape_expr(sides: tuple[Side, ...], dtype: str) -> Desc:
        open = tuple(axis for axis, side in enumerate(sides) if not side.is_constant)
        return Desc(tuple(side.value for side in sides), dtype, open)

    @staticmethod
    def SymInt32(side: Side) -> int:
        return side.value

    def register(self, name: str) -> Any:
        return lambda function: self.described.setdefault(name, function)

    def aot_impl(self, name: str) -> Any:
        return lambda function: self.implemented.setdefault(name, function)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    """The stand-in with our operators registered, on an Orin."""
    found = Module()
    monkeypatch.setattr(aot.driver, "find_gpu", lambda: Gpu("sm_87", 16))
    aot._register_once(found, TRT)
    return found


@pytest.mark.parametrize("operator", operators.PLUGINS, ids=lambda operator: operator.name)
def test_signatures_are_what_tensorrt_asks_for(module: Module, operator: Operator) -> None:
    described = inspect.signature(module.described[f"evm::{operator.name}"])
    types = [parameter.annotation for parameter in described.parameters.values()]
    assert list(described.parameters) == [*operator.inputs, *operator.attributes]
    assert types == [Desc] * len(operator.inputs) + [int] * len(operator.attributes)
    assert described.return_annotation is Desc
    implemented = inspect.signature(module.implemented[f"evm::{operator.name}"])
    assert list(implemented.parameters) == [*operator.inputs, *operator.attributes, "outputs", "tactic"]
    assert implemented.return_annotation == tuple[str | bytes, str | bytes, Params, Sizes]


def plan_of(name: str, shapes: list[tuple[int, ...]], dtype: str, **attributes: int) -> LaunchPlan:
    kernel = OPERATORS[name].gpu
    assert kernel is not None
    return kernel.plan(shapes, "float16" if dtype == "half" else "float32", 16, **attributes)


@pytest.mark.skipif(not compiler.has_compiler(), reason="no CUDA compiler")
@pytest.mark.parametrize("dtype", ["float", "half"])
def test_the_kernel_of_a_scan_with_an_open_batch(module: Module, dtype: str) -> None:
    B, K, L, D, N = 5, 4, 784, 96, 16
    rows, states = [(B, K, L, D), (B, K, L, D)], [(K, N, D), (K, D), (K, D)]
    u, delta = (Desc(shape, dtype, open=(0,)) for shape in rows)
    A, skip, bias = (Desc(shape, "float") for shape in states)
    b, c = (Desc((B, K, L, N), dtype, open=(0,)) for _ in range(2))
    name, code, params, sizes = module.implemented["evm::SelectiveScan"](u, delta, A, b, c, skip, bias, 1, (u,), None)
    plan = plan_of("SelectiveScan", [(1, K, L, D), (1, K, L, D), (K, N, D)], dtype, delta_softplus=1)
    assert name == b"evm_selective_scan"
    assert b".entry evm_selective_scan" in code
    assert b".target sm_87" in code
    assert params.grid_x == B * plan.grid[0]  # of any batch, not of the one that it was planned for
    assert (params.block_x, params.shared_mem, sizes) == (plan.block[0], plan.shared_bytes, [K, L, D])


@pytest.mark.skipif(not compiler.has_compiler(), reason="no CUDA compiler")
def test_the_kernel_of_a_scan_in_two_dimensions(module: Module) -> None:
    B, H, W, D, K, N, R = 1, 56, 55, 96, 4, 16, 3
    shapes = [(B, H, W, D), (K, D, R + 2 * N), (K, R, D), (K, D), (K, N, D), (K, D)]
    given = [Desc(shape, "half" if i < 3 else "float") for i, shape in enumerate(shapes)]
    name, code, params, sizes = module.implemented["evm::EfficientScan2D"](*given, 2, given[:1], None)
    plan = plan_of("EfficientScan2D", shapes, "half", step=2)
    assert (name, sizes) == (b"evm_efficient_scan_2d", [H, W, D])
    assert b".entry evm_efficient_scan_2d" in code
    assert (params.grid_x, params.block_x, params.shared_mem) == (plan.grid[0], plan.block[0], plan.shared_bytes)


@pytest.mark.skipif(not compiler.has_compiler(), reason="no CUDA compiler")
def test_the_kernels_of_tokens_in_an_order_with_an_open_batch(module: Module) -> None:
    """The result of the scan is float32, and its shape comes from two inputs."""
    B, T, K, L, D, N, R = 5, 394, 2, 197, 384, 16, 12
    shapes = [(B, T, D), (K, D, R + 2 * N), (K, R, D), (K, D), (K, N, D), (K, D), (K, L)]
    types = ["half"] * 3 + ["float"] * 3 + ["int64"]
    scanned = [Desc(shape, dtype, (0,) if B in shape else ()) for shape, dtype in zip(shapes, types, strict=True)]
    convolved = [scanned[0], Desc((K, 4, D), "half"), Desc((K, D), "half"), scanned[-1]]
    for operator, given, attributes, result in (
        ("GroupedScan", scanned, {}, "float"),
        ("CausalConv", convolved, {"taps": 4}, "half"),
    ):
        described = module.described[f"evm::{operator}"](*given, **attributes)
        assert ([side.value for side in described.shape_expr], described.dtype) == ([B, K, L, D], result)
        name, code, params, sizes = module.implemented[f"evm::{operator}"](
            *given, *attributes.values(), given[:1], None
        )
        planned = [tuple(side.value for side in each.shape_expr) for each in given]
        plan = plan_of(operator, [(1, T, D), *planned[1:]], "half", **attributes)
        assert (name.decode(), sizes) == (plan.entry, [T, K, L, D])
        assert f".entry {plan.entry}".encode() in code
        assert (params.grid_x, params.block_x, params.shared_mem) == (
            B * plan.grid[0],
            plan.block[0],
            plan.shared_bytes,
        )


def test_plugins_in_bodies_are_marked_and_count_for_every_call() -> None:
    nodes = [helper.make_node(name, ["x"], [f"y{i}"], domain="evm", taps=4) for i, name in enumerate(NODES)]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("evm", 1)]
    model = helper.make_model(helper.make_graph(nodes, "nodes", [], []), opset_imports=imports)
    model.functions.extend(functions.bodies(model))
    assert operators.mark_scans(model) == 2
    marked = [node for body in model.functions for node in body.node if node.op_type == "GroupedScan"]
    assert [{"plugin_namespace", "plugin_version", "aot"} - {a.name for a in node.attribute} for node in marked] == [
        set()
    ]
    assert operators.count_plugins(model.SerializeToString()) == 3
    assert operators.count_plugins(operators.remove_bodies(model.SerializeToString())) == 3

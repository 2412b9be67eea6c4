"""`evm::Lookup`: the kernels and the function body against numpy."""

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from evm_deploy.graph.functions import write_body
from evm_deploy.operators import OPERATORS
from evm_deploy.scan import native

pytestmark = pytest.mark.processor

SIZES = st.sampled_from([0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 16383, 16384, 16385, 40000])
TYPES = ["float32", "uint8"]
BODY = write_body(OPERATORS["Lookup"], 20)
BEYOND = 20000  # entries behind a result, which are watched: more than one unit of work
needs_library = pytest.mark.skipif(not native.available(), reason="no native library")


def run(
    x: npt.NDArray[np.uint8], table: npt.NDArray[np.generic], *, library: bool, threads: int = 1, shape: bool = True
) -> npt.NDArray[np.generic]:
    """`shape`: whether the graph says how large x is."""
    tensors = {"x": (x, x.shape if shape else [None] * x.ndim), "table": (table, table.shape)}
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), dims)
        for name, (value, dims) in tensors.items()
    ]
    y = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(table.dtype), None)
    node = helper.make_node("Lookup", ["x", "table"], ["y"], domain="evm")
    model = helper.make_model(
        helper.make_graph([node], "lookup", values, [y]),
        functions=[] if library else [BODY],  # without the body, nothing but the kernel can have run
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("evm", 1)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    if library:
        options.register_custom_ops_library(str(native.native_library()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if x.size == 0:
        empty: npt.NDArray[np.generic] = session.run(None, {"x": x, "table": table})[0]
        return empty
    memory = np.full(x.size + BEYOND, 77, table.dtype)
    bound = session.io_binding()
    for name, value in (("x", x), ("table", table)):
        bound.bind_cpu_input(name, value)
    bound.bind_output("y", "cpu", 0, table.dtype.type, x.shape, memory.ctypes.data)
    session.run_with_iobinding(bound)
    assert (memory[x.size :] == 77).all()
    return memory[: x.size].reshape(x.shape)


def numbers(
    shape: int | tuple[int, ...], kind: str, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.generic]]:
    """Indices of every value, and a table."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, 256) if kind == "uint8" else 1e3 * rng.standard_normal(256)
    return rng.integers(0, 256, shape, dtype=np.uint8), table.astype(kind)


def assert_same(found: npt.NDArray[np.generic], wanted: npt.NDArray[np.generic]) -> None:
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=SIZES, kind=st.sampled_from(TYPES), threads=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_every_kernel(isa: str, size: int, kind: str, threads: int, seed: int) -> None:
    x, table = numbers(size, kind, seed)
    assert_same(run(x, table, library=True, threads=threads), table[x])


@pytest.mark.parametrize("kind", TYPES)
def test_every_entry_of_the_table(isa: str, kind: str) -> None:
    """In order and backwards, so that each meets every place of a vector."""
    _, table = numbers(1, kind, 0)
    x = np.concatenate([np.roll(np.arange(256, dtype=np.uint8), by) for by in range(64)])
    assert_same(run(x, table, library=True), table[x])
    assert_same(run(x[::-1].copy(), table, library=True), table[x[::-1]])


@pytest.mark.parametrize("library", [False, pytest.param(True, marks=needs_library)], ids=["body", "kernel"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (2, 7, 3, 11), (2, 0, 3)])
def test_any_shape(library: bool, kind: str, known: bool, shape: tuple[int, ...]) -> None:
    x, table = numbers(shape, kind, seed=1)
    x = np.asarray(x, np.uint8)
    assert_same(run(x, table, library=library, shape=known), table[x])


@needs_library
def test_numbers_that_are_no_numbers_are_passed_on() -> None:
    x, table = numbers(1000, "float32", seed=2)
    table[:4] = [np.nan, np.inf, -np.inf, -0.0]
    found = run(x, table, library=True)
    np.testing.assert_array_equal(found.view(np.int32), table[x].view(np.int32))


@needs_library
@pytest.mark.parametrize("entries", [(255,), (257,), (2, 128), ()])
def test_a_table_of_another_size_is_refused(entries: tuple[int, ...]) -> None:
    with pytest.raises(Exception, match=r"evm::Lookup: table has shape \(.*\), expected \(256\)"):
        run(np.zeros(4, np.uint8), np.zeros(entries, np.float32), library=True)

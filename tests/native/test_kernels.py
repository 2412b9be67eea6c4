"""The native kernels against the sequential reference in float64, with every instruction set of this machine."""

import _ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evm_deploy.errors import MissingToolError
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

pytestmark = pytest.mark.processor

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]
# The fixture only selects the kernels, which every example may share.
SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHANNELS = st.sampled_from([1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 49, 64, 100])
STATES = st.sampled_from([1, 2, 3, 5, 8, 9, 16, 17, 24, 33])


@SHARED
@given(
    batch=st.integers(1, 3),
    K=st.integers(1, 4),
    L=st.integers(1, 80),
    channels=CHANNELS,
    N=STATES,
    softplus=st.booleans(),
    optional=st.booleans(),
    seed=st.integers(0, 9),
)
def test_selective_scan(
    isa: str,
    make_scan: Make,
    relative_error: Error,
    batch: int,
    K: int,
    L: int,
    channels: int,
    N: int,
    softplus: bool,
    optional: bool,
    seed: int,
) -> None:
    case = make_scan(batch, K, L, channels, N, softplus, optional, seed)
    assert relative_error(native.run(ScanInputs(*case.arguments())), case.expected()) < KERNEL_RELATIVE


@SHARED
@given(
    batch=st.integers(1, 2),
    H=st.integers(1, 19),
    W=st.integers(1, 19),
    channels=CHANNELS,
    N=STATES,
    R=st.integers(1, 7),
    step=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_efficient_scan_2d(
    isa: str,
    make_scan_2d: Make,
    relative_error: Error,
    batch: int,
    H: int,
    W: int,
    channels: int,
    N: int,
    R: int,
    step: int,
    seed: int,
) -> None:
    case = make_scan_2d(batch, H, W, channels, N, R, step, seed)
    assert relative_error(native.run(Scan2DInputs(*case.arguments())), case.expected()) < KERNEL_RELATIVE


def test_stage_1_of_t(isa: str, make_scan: Make, make_scan_2d: Make, relative_error: Error) -> None:
    case = make_scan(1, 4, 784, 96, 16, softplus=False)
    assert relative_error(native.run(ScanInputs(*case.arguments())), case.expected()) < KERNEL_RELATIVE
    case_2d = make_scan_2d(1, 56, 56, 96, 16, 3, 2)
    assert relative_error(native.run(Scan2DInputs(*case_2d.arguments())), case_2d.expected()) < KERNEL_RELATIVE


@pytest.mark.parametrize("softplus", [False, True])
def test_a_small_constant_delta_does_not_drift(
    isa: str, make_scan: Make, relative_error: Error, softplus: bool
) -> None:
    """The error of a decay close to one adds up over all tokens: a bias of 1e-7 would show here as 1e-5."""
    case = make_scan(1, 1, 1000, 32, 16)
    delta = torch.logspace(-3, -1, 32).expand(1, 1, 1000, 32)
    if softplus:
        delta = delta.double().expm1().log().float()
    case = replace(case, delta=delta, delta_bias=None, delta_softplus=softplus)
    assert relative_error(native.run(ScanInputs(*case.arguments())), case.expected()) < KERNEL_RELATIVE


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("A", [-1e30, -3.4e38, float("-inf")])
def test_a_decay_beyond_float32_is_zero(
    isa: str, make_scan: Make, relative_error: Error, A: float, softplus: bool
) -> None:
    case = make_scan(1, 2, 40, 20, 8, softplus, optional=False)
    y = native.run(ScanInputs(*replace(case, A=torch.full_like(case.A, A)).arguments()))
    assert relative_error(y, replace(case, A=torch.full_like(case.A, -1e30)).expected()) < KERNEL_RELATIVE


def test_a_delta_of_zero_keeps_the_state_exactly(isa: str, make_scan: Make) -> None:
    """However large A is: padding a sequence so must be exact."""
    case = make_scan(1, 1, 40, 20, 8, softplus=False, optional=False)
    delta = case.delta.clone()
    delta[:, :, 10:] = 0
    C = case.C[:, :, :1].expand_as(case.C)
    A = case.A.clone()
    A[:, 0] = float("-inf")
    y = native.run(ScanInputs(*replace(case, delta=delta, A=A, C=C).arguments()))
    assert torch.equal(y[:, :, 10:], y[:, :, 9:10].expand(-1, -1, 30, -1))


def test_a_growing_state_overflows_as_the_reference_does(isa: str, make_scan: Make, relative_error: Error) -> None:
    case = make_scan(1, 1, 12, 20, 3, softplus=False)
    grown = replace(case, A=-case.A, delta=torch.full_like(case.delta, 0.7))
    assert relative_error(native.run(ScanInputs(*grown.arguments())), grown.expected()) < KERNEL_RELATIVE
    backwards = replace(case, delta=-case.delta / 10)
    assert relative_error(native.run(ScanInputs(*backwards.arguments())), backwards.expected()) < KERNEL_RELATIVE
    steep = replace(case, A=torch.full_like(case.A, 90.0), delta=torch.ones_like(case.delta))
    assert not native.run(ScanInputs(*steep.arguments()))[0, 0, -1].isfinite().any()


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "delta_bias"])
def test_a_nan_is_not_lost(isa: str, make_scan: Make, name: str) -> None:
    case = make_scan(1, 1, 40, 20, 8)
    tensor = getattr(case, name).clone()
    tensor.view(-1)[0] = float("nan")  # of channel 0 and token 0
    y = native.run(ScanInputs(*replace(case, **{name: tensor}).arguments()))
    assert y[0, 0, 0, 0].isnan()


def test_softplus_is_accurate_where_it_is_tiny_and_where_it_is_large(isa: str) -> None:
    """With one token and one state, y = delta * u * B * C: delta itself."""
    delta = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([-1e30, 1e30, 0.0])])
    one = torch.ones(1, 1, 1, 1)
    y = native.run(
        ScanInputs(
            torch.ones(1, 1, 1, len(delta)),
            delta.view(1, 1, 1, -1),
            -torch.ones(1, 1, len(delta)),
            one,
            one,
            None,
            None,
            True,
        )
    )
    expected = delta.double().exp().log1p().where(delta < 700, delta.double())
    assert float(((y.view(-1) - expected).abs() / expected.clamp(min=1e-38)).max()) < KERNEL_RELATIVE


def test_a_fading_state_does_not_become_slow(isa: str, make_scan: Make) -> None:
    """The states would pass through the denormal numbers; they stop above them, or at zero."""
    case = make_scan(1, 1, 400, 16, 16, softplus=False, optional=False)
    delta = torch.full_like(case.delta, 0.5)
    u = torch.zeros_like(case.u)
    u[:, :, 0] = 1
    y = native.run(ScanInputs(*replace(case, u=u, delta=delta, A=torch.full_like(case.A, -1.0)).arguments()))
    assert (y[:, :, 250:].abs() < 1e-36).all()
    smallest_normal = torch.finfo(torch.float32).tiny
    assert ((y == 0) | (y.abs() >= smallest_normal)).all()
    assert (y[:, :, 100] != 0).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_results_do_not_depend_on_the_threads(
    isa: str, make_scan: Make, make_scan_2d: Make, threads: None, count: int
) -> None:
    case, case_2d = make_scan(2, 3, 70, 100, 16), make_scan_2d(2, 13, 11, 100, 16, 4, 2)
    torch.set_num_threads(1)
    one = native.run(ScanInputs(*case.arguments())), native.run(Scan2DInputs(*case_2d.arguments()))
    torch.set_num_threads(count)
    assert torch.equal(native.run(ScanInputs(*case.arguments())), one[0])
    assert torch.equal(native.run(Scan2DInputs(*case_2d.arguments())), one[1])


@pytest.mark.parametrize("shape", [(0, 2, 5, 4), (1, 2, 0, 4), (1, 2, 5, 0), (1, 0, 5, 4)])
def test_nothing_in_nothing_out(
    isa: str, make_scan: Make, make_scan_2d: Make, shape: tuple[int, int, int, int]
) -> None:
    assert native.run(ScanInputs(*make_scan(*shape, N=3).arguments())).shape == shape
    batch, H, W, channels = shape
    assert native.run(Scan2DInputs(*make_scan_2d(batch, H, W, channels, 3, 2, 2).arguments())).shape == shape


def test_other_memory_layouts_are_copied(isa: str, make_scan: Make) -> None:
    case = make_scan(1, 2, 30, 20, 4)
    swapped = replace(case, u=case.u.transpose(2, 3).contiguous().transpose(2, 3))
    assert torch.equal(native.run(ScanInputs(*swapped.arguments())), native.run(ScanInputs(*case.arguments())))


@pytest.mark.parametrize("name", ["delta", "A", "B", "C", "D", "delta_bias"])
def test_a_wrong_shape_is_refused(isa: str, make_scan: Make, name: str) -> None:
    case = make_scan(1, 2, 6, 5, 4)
    with pytest.raises(ValueError, match=rf"{name} has shape .* expected"):
        native.run(ScanInputs(*replace(case, **{name: getattr(case, name)[..., :-1]}).arguments()))


@pytest.mark.parametrize("name", ["x", "x_proj", "dt_proj", "dt_bias", "A", "D"])
def test_a_wrong_shape_is_refused_2d(isa: str, make_scan_2d: Make, name: str) -> None:
    case = make_scan_2d(1, 4, 6, 5, 4, 2, 2)
    with pytest.raises(ValueError, match=r"has shape .* expected"):
        native.run(Scan2DInputs(*replace(case, **{name: getattr(case, name)[..., :-1]}).arguments()))
    with pytest.raises(ValueError, match=r"expected .*\(B, H, W, D\)"):
        native.run(Scan2DInputs(*replace(case, x=case.x[0]).arguments()))
    with pytest.raises(ValueError, match="step is 0"):
        native.run(Scan2DInputs(*replace(case, step=0).arguments()))


def test_other_types_and_devices_are_refused(isa: str, make_scan: Make) -> None:
    case = make_scan(1, 2, 6, 5, 4)
    with pytest.raises(ValueError, match=r"torch.float64 on cpu"):
        native.run(ScanInputs(*case.arguments(torch.float64)))
    with pytest.raises(ValueError, match="on meta"):
        native.run(ScanInputs(*replace(case, u=case.u.to("meta")).arguments()))


def test_an_unknown_instruction_set_is_refused(isa: str) -> None:
    with pytest.raises(ValueError, match="'mmx'"):
        native.set_isa("mmx")
    assert native.isa() == isa


def test_the_environment_names_another_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    with pytest.raises(MissingToolError, match=r"absent.so, which is not a file"):
        native.native_library()
    assert native.available()  # a named one that is not usable is an error, and no reason to run without it
    (tmp_path / "absent.so").write_text("text")
    with pytest.raises(MissingToolError, match="does not load"):
        native.find_usable_library()
    monkeypatch.setenv(native.LIBRARY_VARIABLE, _ctypes.__file__)
    with pytest.raises(MissingToolError, match="is not the operator library of this version"):
        OnnxRunner(b"", library=True)


def test_an_installation_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(native.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("evm_deploy.__path__", [str(tmp_path)])
    with pytest.raises(MissingToolError, match=r"without a C\+\+ compiler"):
        native.native_library()
    (tmp_path / "native_lib").mkdir()
    (tmp_path / "native_lib" / "libevm_ops.so").touch()
    assert native.native_library() == tmp_path / "native_lib" / "libevm_ops.so"

"""The kernel source through NVRTC and nvcc, without a GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evm_deploy.cuda import compile as compiler
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.conv_plan import plan_causal_conv
from evm_deploy.cuda.plan import (
    SM_COUNTS,
    LaunchPlan,
    plan_efficient_scan_2d,
    plan_grouped_scan,
    plan_selective_scan,
)
from evm_deploy.errors import MissingToolError, OptionError

needs_nvrtc = pytest.mark.skipif(compiler._load_nvrtc() is None, reason="no nvidia-cuda-nvrtc")
needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")


def plans(batch: int, N: int, dtype: str) -> list[LaunchPlan]:
    """Of T's first stage, and of Vim-T."""
    return [
        plan_selective_scan(batch, 4, 784, 96, N, dtype, 132),
        plan_efficient_scan_2d(batch, 56, 56, 96, 4, N, 3, 2, dtype, 132),
        plan_grouped_scan(batch, 394, 2, 197, 384, N, 12, dtype, 132),
        plan_causal_conv(batch, 197, 2, 197, 384, 4, dtype, 132),
    ]


@needs_nvrtc
@pytest.mark.parametrize("architecture", [*SM_COUNTS, "sm_121"])
def test_nvrtc_compiles_for_every_architecture(architecture: str) -> None:
    for plan in plans(1, 16, "float16"):
        code = compile_kernel(plan.defines, architecture, source=plan.source)
        assert code.startswith(b"\x7fELF")
        assert plan.entry.encode() in code
    assert compile_kernel(plan.defines, architecture, source=plan.source) is code


@needs_nvrtc
def test_ptx_is_text_for_the_architecture() -> None:
    plan = plans(64, 16, "float32")[0]
    ptx = compile_kernel(plan.defines, "sm_87", format="ptx").decode("ascii")
    assert ".target sm_87" in ptx
    assert f".entry {plan.entry}(" in ptx
    assert len(re.findall(rf"\.param .*{plan.entry}_param_\d+,?$", ptx, re.MULTILINE)) == 11  # 7 inputs, 3 sizes, y


@needs_nvcc
@pytest.mark.parametrize("format", ["cubin", "ptx"])
def test_nvcc_serves_where_nvrtc_is_not_installed(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr(compiler, "_load_nvrtc", lambda: None)
    compiler._compile.cache_clear()
    plan = plans(1, 8, "float32")[0]
    assert plan.entry.encode() in compile_kernel(plan.defines, "sm_90", format=format)
    with pytest.raises(MissingToolError, match="nvcc does not compile the kernels for sm_20"):
        compile_kernel(plan.defines, "sm_20")


@needs_nvcc
@pytest.mark.parametrize(
    ("architecture", "N", "batch"),
    [
        ("sm_87", 16, 1),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("sm_75", 16, 64), ("sm_87", 1, 64), ("sm_87", 8, 8), ("sm_90", 16, 1), ("sm_90", 16, 64)]
        ),
    ],
)
def test_registers_suffice(tmp_path: Path, architecture: str, N: int, batch: int) -> None:
    for plan in plans(batch, N, "float32"):
        report = subprocess.run(
            ["nvcc", "-cubin", f"-arch={architecture}", "-Xptxas", "-v", "-o", str(tmp_path / "kernel")]
            + [f"-D{define}" for define in plan.defines]
            + [str(plan.source)],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in report
        registers = int(re.findall(r"Used (\d+) registers", report)[0])
        assert registers * plan.block[0] <= 65536


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_load_nvrtc", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiler._compile.cache_clear()


def test_no_compiler_names_the_package(no_compiler: None) -> None:
    assert not compiler.has_compiler()
    with pytest.raises(MissingToolError, match="pip install nvidia-cuda-nvrtc"):
        compile_kernel(plans(1, 16, "float32")[0].defines, "sm_87")


@needs_nvrtc
def test_an_architecture_that_the_compiler_does_not_know() -> None:
    with pytest.raises(MissingToolError, match="NVRTC does not compile the kernels for sm_20"):
        compile_kernel(plans(1, 16, "float32")[0].defines, "sm_20")


@pytest.mark.parametrize("architecture", ["orin", "compute_87", "sm_87 -o /tmp/x", ""])
def test_what_is_no_architecture_is_refused(architecture: str) -> None:
    with pytest.raises(OptionError, match="is not an architecture"):
        compile_kernel((), architecture)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(OptionError, match="no format 'fatbin'"):
        compile_kernel((), "sm_87", format="fatbin")


@needs_nvrtc
def test_a_plan_that_disagrees_with_the_source_is_refused() -> None:
    """The size of shared memory is computed twice, in Python and in the source: they must not drift apart."""
    defines = [re.sub("EVM_SHARED=.*", "EVM_SHARED=4", define) for define in plans(1, 16, "float32")[0].defines]
    with pytest.raises(MissingToolError, match=r"plan\.py computes another size"):
        compile_kernel(defines, "sm_87")

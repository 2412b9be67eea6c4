"""The context supplies, and leaves everything as it was: modules, attributes, finders; nested, and at exceptions."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import evm_deploy
from evm_deploy.compat import without_cuda
from evm_deploy.compat.table import ALWAYS, MISSING, ROOTS


def ours() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ROOTS}


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Holds what must not change against what it was."""
    before = (ours(), list(sys.meta_path), torch.cuda.device)
    yield
    assert (ours(), sys.meta_path, torch.cuda.device) == before


def test_every_module_of_the_tables_is_imported_with_what_is_in_it() -> None:
    with evm_deploy.compat.without_cuda():
        for name, contents in {**ALWAYS, **MISSING}.items():
            module = importlib.import_module(name)
            assert all(getattr(module, each) is value for each, value in contents.items())
            parent, _, leaf = name.rpartition(".")
            assert not parent or getattr(sys.modules[parent], leaf) is module
    for name in ALWAYS:
        with pytest.raises(ImportError):
            importlib.import_module(name)


def test_what_was_imported_before_is_there_again() -> None:
    mine = ModuleType("selective_scan_cuda")
    sys.modules["selective_scan_cuda"] = mine
    try:
        with without_cuda():
            assert importlib.import_module("selective_scan_cuda") is not mine
        assert sys.modules["selective_scan_cuda"] is mine
    finally:
        del sys.modules["selective_scan_cuda"]


def test_an_exception_passes_and_nothing_stays() -> None:
    with pytest.raises(ZeroDivisionError), without_cuda():
        _ = 1 / len(vars(importlib.import_module("mamba_ssm.models")).get("__all__", ()))


def test_within_itself() -> None:
    with without_cuda():
        outer = importlib.import_module("triton")
        with without_cuda():
            assert importlib.import_module("triton") is not outer
        assert importlib.import_module("triton") is outer
        assert torch.cuda.device(torch.device("cpu")) is not None


def test_a_cpu_is_a_device_of_cuda_within() -> None:
    x = torch.zeros(1)
    with without_cuda():
        for device in (x.device, "cpu", x.device.index):
            with torch.cuda.device(device):
                pass
        with pytest.raises(ValueError, match="mps"), torch.cuda.device("mps"):
            pass
    with pytest.raises(ValueError, match="cuda device"), torch.cuda.device(x.device):
        pass


def test_the_compiler_takes_no_stand_in_for_triton() -> None:
    from torch.utils import _triton

    with without_cuda():
        importlib.import_module("triton.language.extra")
        found = _triton.has_triton_package()
    assert found == _triton.has_triton_package()


FORK = {
    "mamba_ssm/__init__.py": "from mamba_ssm.modules.mixer import Mamba\n",
    "mamba_ssm/modules/__init__.py": "",
    "mamba_ssm/modules/mixer.py": "import selective_scan_cuda\nfrom mamba_ssm.ops.triton.layer_norm import RMSNorm\n"
    "from mamba_ssm.utils.generation import GenerationMixin\nclass Mamba:\n    scan = selective_scan_cuda.fwd\n",
    "mamba_ssm/ops/__init__.py": "",
    "mamba_ssm/ops/triton/__init__.py": "raise AssertionError('its kernels cannot run')\n",
    "mamba_ssm/utils/__init__.py": "",
    "mamba_ssm/utils/generation.py": "import a_library_of_language_models\n",
}


def test_a_fork_on_the_path_is_taken_and_its_kernels_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FORK.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with without_cuda():
        fork = importlib.import_module("mamba_ssm")
        assert Path(str(fork.__file__)).is_relative_to(tmp_path)
        assert fork.Mamba.scan is ALWAYS["selective_scan_cuda"]["fwd"]

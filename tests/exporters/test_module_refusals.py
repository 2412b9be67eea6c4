"""What cannot be exported of somebody's module is said in one line, with the module's name and the line of its code."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evm_deploy
from evm_deploy import ExportOptions
from evm_deploy.cli import main
from evm_deploy.errors import CheckpointError, InputError, OptionError

OPTIONS = ExportOptions(image_size=(32, 32), verify=False)
HERE = Path(__file__).name


class Network(nn.Module):
    """A classifier whose part `inner` does what the test is about."""

    def __init__(self, work: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.inner = Inner(work)

    def forward(self, x: Tensor) -> Any:
        y = self.inner(self.conv(x))
        return y.mean((2, 3)) if isinstance(y, Tensor) and y.dim() == 4 else y


class Inner(nn.Module):
    def __init__(self, work: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.work = work

    def forward(self, x: Tensor) -> Any:
        return self.work(x)


def branch(x: Tensor) -> Tensor:
    return x * 2 if x.mean() > 0 else x


def take_item(x: Tensor) -> Tensor:
    scale = x.abs().max().item()
    return x / scale if scale > 1 else x


def count_by_value(x: Tensor) -> Tensor:
    n = int((x > 0).sum()) + 1
    return x.flatten(2)[:, :, :n].unsqueeze(3)


def use_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(abs(x.numpy()))


def draw(x: Tensor) -> Tensor:
    return x + torch.rand_like(x)


def drop(x: Tensor) -> Tensor:
    return F.dropout(x, 0.5)


def choose(x: Tensor) -> Tensor:
    return x * F.gumbel_softmax(x.new_tensor([1e9, 0.0]), hard=True)[0]  # the same at every call


def loop(x: Tensor) -> Tensor:
    """A scan as its authors write it for machines without CUDA."""
    h, y = torch.zeros_like(x[:, :, 0]), []
    for row in x.unbind(2):
        h = torch.exp(-row.abs()) * h + row * row
        y.append(h)
    return torch.stack(y, 2)


def loop_in_place(x: Tensor) -> Tensor:
    h = torch.zeros_like(x[:, :, 0])
    for row in x.unbind(2):
        h.mul_(row.sigmoid()).add_(row)
    return h.unsqueeze(2)


def decompose(x: Tensor) -> Tensor:
    return torch.linalg.svdvals(x).unsqueeze(3)


def raise_error(x: Tensor) -> Tensor:
    raise KeyError("no such thing")


def give_integers(x: Tensor) -> Tensor:
    return x.argmax(1)


def give_nan(x: Tensor) -> Tensor:
    return x * float("nan")


def fix_size(x: Tensor) -> Tensor:
    return x.reshape(-1, 4, 30, 30)


def refusal(module: Any, out: Path, options: ExportOptions = OPTIONS) -> str:
    with pytest.raises((InputError, CheckpointError, OptionError)) as caught:
        evm_deploy.export(module, out / "bundle", options)
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (branch, "depends on the values of tensors"),
        (take_item, "depends on the values of tensors"),
        (count_by_value, "depends on the values of tensors"),
        (use_numpy, "turns tensors into NumPy arrays"),
        (draw, "draws random numbers with aten.rand_like"),
        (drop, "draws random numbers with aten.bernoulli_"),
        (choose, "draws random numbers with aten.exponential_"),
        (loop, "a scan is a Python loop over its tokens"),
        (loop_in_place, "a scan is a Python loop over its tokens"),
        (raise_error, "no such thing"),
    ],
)
def test_it_names_the_module_and_the_line(
    work: Callable[[Tensor], Tensor], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refusal(Network(work), tmp_path)
    first = inspect.getsourcelines(work)[1]
    assert reason in said
    assert any(f" in inner ({HERE}:{line})" in said for line in range(first + 1, first + 5))
    assert capfd.readouterr() == ("", "")  # nothing of PyTorch's own pages


def test_an_operation_that_onnx_has_not(tmp_path: Path) -> None:
    """The program remembers the forward that it comes from, not what that calls."""
    line = inspect.getsourcelines(Inner.forward)[1] + 1
    assert f"uses aten._linalg_svd in inner ({HERE}:{line})" in refusal(Network(decompose), tmp_path)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Network(give_integers), "gives int64, not float tensors"),
        (Network(give_nan), "values that are not finite"),
        (Network(lambda x: [x.mean((2, 3)), "text"]), "gives str, not float tensors"),
        (Network(lambda x: ()), "gives no output"),
        (Network(lambda x: x.mean(1)), r"cannot be told from the model's outputs, \(1, 30, 30\)"),
        (nn.Embedding(4, 4), r"does not take an image \(1, 3, 32, 32\)"),
        (nn.Conv2d(1, 4, 3), "to have 1 channels, but got 3 channels"),
        (nn.Conv2d(3, 4, 3).half(), "weight of Conv2d is float16, not float32"),
        (nn.Conv2d(3, 4, 3, device="meta"), "weight of Conv2d is on meta, not on the CPU"),
        (print, "is no torch.nn.Module"),
    ],
    ids=str,
)
def test_what_is_no_network_of_images_in_float32(module: Any, reason: str, tmp_path: Path) -> None:
    assert re.search(reason, refusal(module, tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "model"}, "key is for checkpoints"),
        ({"scan": "es2d"}, "scan is for checkpoints"),
        ({"task": "backbone"}, "not those of a backbone"),
        ({"task": "segmenting"}, "no task"),
        ({"output_names": ("a", "b")}, "2 names .* for 1 output"),
        ({"output_names": ("a b",)}, "a b"),
        ({"example": torch.zeros(3, 32, 32)}, "example"),
        ({"example": torch.zeros(1, 3, 64, 64)}, "example"),
        ({"example": "image.png"}, "example"),
    ],
)
def test_options_that_do_not_fit(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        evm_deploy.export(Network(lambda x: x), tmp_path / "bundle", dataclasses.replace(OPTIONS, **changes))
    assert re.search(reason, str(caught.value))


@pytest.mark.parametrize("option", ["dynamic_size", "dynamic_batch"])
def test_a_length_that_the_module_fixes_cannot_be_dynamic(option: str, tmp_path: Path) -> None:
    module = Network(fix_size if option == "dynamic_size" else lambda x: x.reshape(1, 4, 30, -1))
    said = refusal(module, tmp_path, dataclasses.replace(OPTIONS, **{option: True}))
    assert f"leave --{option.replace('_', '-')} out" in said or "same" in said


def count_windows(x: Tensor) -> Tensor:
    """As windows are put together: the number of images as a Python number."""
    windows = x.unflatten(3, (5, 6)).unflatten(2, (5, 6)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    images = int(len(windows) / (30 * 30 / 6 / 6))
    return windows.reshape(images, 25, 4, 36).mean((1, 3)).reshape(images, 4, 1, 1)


def test_a_number_of_images_that_is_computed_in_python_cannot_be_dynamic(tmp_path: Path) -> None:
    said = refusal(Network(count_windows), tmp_path, dataclasses.replace(OPTIONS, dynamic_batch=True))
    assert "the network takes only some lengths of the image's batch (2)" in said


FILE = """
import torch
from torch import nn
import beside

def build():
    return nn.Sequential(nn.Conv2d(3, beside.WIDTH, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def fail():
    raise ValueError("no weights here")

def text():
    return "a module"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("def build(:\n")
    return tmp_path / "net.py"


def test_a_function_of_a_file_is_exported(file: Path, tmp_path: Path) -> None:
    arguments = ["export", "--module", f"{file}:build", "--out", str(tmp_path / "out"), "--image-size", "32"]
    assert main([*arguments, "--output-names", "scores"]) == 0
    manifest = evm_deploy.Bundle.open(tmp_path / "out").manifest
    assert (manifest.checkpoint.file, manifest.outputs[0].name) == ("Sequential", "scores")


def test_a_bundle_is_verified_with_its_module(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, build = str(tmp_path / "out"), "def build():\n"
    file.write_text(FILE.replace(build, f"{build}    torch.manual_seed(1)\n"))
    assert main(["export", "--module", f"{file}:build", "--out", out, "--image-size", "32"]) == 0
    assert main(["verify", out, "--module", f"{file}:build"]) == 0
    assert "compared with PyTorch" in capsys.readouterr().out
    file.write_text(FILE.replace(build, f"{build}    torch.manual_seed(123456)\n"))
    assert main(["verify", out, "--module", f"{file}:build"]) == 2
    assert "is not, or no longer, the module" in capsys.readouterr().err
    assert main(["verify", out, "--module", f"{file}:build", "--checkpoint", "a.pth"]) == 2
    assert "no file a.pth" in capsys.readouterr().err
    assert main(["verify", out, "--module", f"{file}:build", "--key", "model"]) == 2
    assert "--key is for the weights of --module" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("none.py:build", "none.py is not a file"),
        ("net.py:nothing", "has no function nothing"),
        ("net.py", "names no function of a file"),
        ("net.py:fail", "net.py:10: ValueError: no weights here"),
        ("net.py:text", "returns str, no torch.nn.Module"),
        ("broken.py:build", "broken.py:1: SyntaxError"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(
    file: Path, named: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--module", str(file.parent / named), "--out", str(file.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.strip().splitlines()) == 2


def test_a_checkpoint_or_a_module(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(file.parent / "out")]
    assert main(["export", *out]) == 2
    assert main(["export", "a.pth", "--module", f"{file}:build", *out]) == 2
    assert capsys.readouterr().err.count("a checkpoint or --module") == 2


def test_what_is_no_scan_in_a_loop(tmp_path: Path) -> None:
    """Deep residual networks with scaled branches, and norms written out."""

    def go_deep(x: Tensor) -> Tensor:
        scale = x.new_full((4, 1, 1), 0.5)
        for _ in range(20):
            x = x + scale * torch.tanh(x)
            x = (x - x.mean(1, keepdim=True)) * scale + 1
        x = F.scaled_dot_product_attention(x, x, x)  # its dropout is 0
        return x

    evm_deploy.export(Network(go_deep), tmp_path / "bundle", OPTIONS)

"""From a checkpoint and the options of export to an answer: the images are prepared as was said, in every form."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import evm_deploy
from evm_deploy import QuantizeOptions, cli
from evm_deploy.bundle import Bundle
from evm_deploy.exporters import onnx as onnx_exporter
from evm_deploy.tolerances import INT8_COSINE

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.safetensors"
SIZE = (70, 90)  # (h, w) of the picture


@dataclasses.dataclass(frozen=True)
class Case:
    """What is asked for, and the preparation of a picture of SIZE for 64x64, worked out by hand."""

    given: str = ""
    resized: tuple[int, int] = (73, 93)  # (h, w)
    corner: tuple[int, int] = (4, 14)  # (y, x) of the crop; negative where it begins in the padding
    filter: Image.Resampling = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    order: str = "RGB"
    fill: int = 0

    def prepare(self, picture: Path) -> npt.NDArray[np.float32]:
        image = Image.open(picture).convert("RGB")
        image = image.resize((self.resized[1], image.height), self.filter).resize(self.resized[::-1], self.filter)
        canvas = np.full((64, 64, 3), self.fill, np.uint8)
        y, x = self.corner
        visible = np.array(image)[max(y, 0) : max(y, 0) + 64, max(x, 0) : max(x, 0) + 64]
        canvas[max(-y, 0) : max(-y, 0) + len(visible), max(-x, 0) : max(-x, 0) + len(visible[0])] = visible
        ordered = np.stack([canvas[..., "RGB".index(channel)] for channel in self.order], -1)
        normal = (ordered / np.float32(255) - np.float32(self.mean)) / np.float32(self.std)
        return np.float32(normal.transpose(2, 0, 1)[None])


CASES = (
    Case("--mean 0.5,0.4,0.3 --std 0.1,0.2,0.3", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)),
    Case("--interpolation lanczos --channels BGR", filter=Image.Resampling.LANCZOS, order="BGR"),
    Case("--crop-pct 1 --interpolation nearest", resized=(64, 82), corner=(0, 9), filter=Image.Resampling.NEAREST),
    Case("--resize squash", resized=(73, 73), corner=(4, 4)),
    Case("--resize letterbox --fill 200", resized=(57, 73), corner=(-4, 4), fill=200),
)
ALL = Case(
    "--mean 0.5,0.4,0.3 --std 0.3,0.2,0.1 --crop-pct 1 --interpolation bilinear --resize letterbox --channels BGR "
    "--fill 114",
    resized=(50, 64),
    corner=(-7, 0),
    filter=Image.Resampling.BILINEAR,
    mean=(0.5, 0.4, 0.3),
    std=(0.3, 0.2, 0.1),
    order="BGR",
    fill=114,
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    noise[:, :, 0] //= 3
    noise[20:50, 30:60] = (250, 120, 10)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture(scope="module")
def graph(exported: Callable[..., Bundle]) -> bytes:
    """The model of a bundle that does not normalise itself, which none of the options changes."""
    return exported("digits").model_path.read_bytes()


def write_known(graph: bytes) -> Callable[[Any, Path, Any], dict[str, Any]]:
    def write(source: Any, path: Path, progress: Any) -> dict[str, Any]:
        path.write_bytes(graph)
        return {}

    return write


@pytest.fixture
def known_graph(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_exporter, "write", write_known(graph))


def export_by_command(checkpoint: Path, out: Path, given: str) -> Bundle:
    command = ["export", str(checkpoint), "--image-size", "64", "--no-verify", "--out", str(out), *given.split()]
    assert cli.main(command) == 0
    return Bundle.open(out)


def ask_pytorch(prepared: npt.NDArray[np.float32]) -> list[float]:
    with torch.inference_mode():
        scores: list[float] = evm_deploy.load(DIGITS)(torch.from_numpy(prepared)).softmax(-1)[0].tolist()
    return scores


def ask_bundle(bundle: Bundle, picture: Path) -> list[float]:
    (found,) = evm_deploy.predict(bundle.path, picture, top=10)
    return [dict(found.top)[f"class {index}"] for index in range(10)]


@pytest.mark.usefixtures("known_graph")
@pytest.mark.parametrize("case", CASES, ids=[case.given for case in CASES])
def test_predict_prepares_as_each_option_says(tmp_path: Path, picture: Path, case: Case) -> None:
    bundle = export_by_command(DIGITS, tmp_path / "bundle", case.given)
    expected = ask_pytorch(case.prepare(picture))
    assert ask_bundle(bundle, picture) == pytest.approx(expected, abs=1e-5)
    assert ask_pytorch(Case().prepare(picture)) != pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("known_graph")
def test_predict_prepares_as_the_checkpoint_says(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = argparse.Namespace(crop_pct=1.0, crop_mode="squash", mean=[127.5] * 3, std=[127.5] * 3, input_size=96)
    torch.save({"model": load_file(DIGITS), "args": said}, tmp_path / "a.pth")
    bundle = export_by_command(tmp_path / "a.pth", tmp_path / "bundle", "--interpolation nearest")
    by_hand = Case(resized=(64, 64), corner=(0, 0), filter=Image.Resampling.NEAREST, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert ask_bundle(bundle, picture) == pytest.approx(ask_pytorch(by_hand.prepare(picture)), abs=1e-5)
    assert bundle.manifest.preprocessing_record.sources == {
        "mean": "args",
        "std": "args",
        "crop_pct": "args",
        "resize": "args",
        "interpolation": "the options",
    }
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "images" in line] == [
        "images are prepared with crop_pct 1, mean 0.5 0.5 0.5, std 0.5 0.5 0.5, resize squash by args; "
        "interpolation nearest by the options",
        "args of the checkpoint states images of 96x96; the model takes 64x64, as --image-size says",
    ]


def test_a_baked_model_and_an_int8_one_give_what_the_plain_one_gives(
    tmp_path: Path, picture: Path, graph: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_exporter, "write", write_known(graph))
        plain = export_by_command(DIGITS, tmp_path / "plain", ALL.given)
    baked = export_by_command(DIGITS, tmp_path / "baked", f"{ALL.given} --bake-preprocessing")
    expected = ask_pytorch(ALL.prepare(picture))
    assert ask_bundle(plain, picture) == pytest.approx(expected, abs=1e-5)
    assert ask_bundle(baked, picture) == pytest.approx(expected, abs=1e-5)
    int8 = evm_deploy.quantize(plain.path, str(picture.parent), tmp_path / "int8", QuantizeOptions(samples=1)).bundle
    np.testing.assert_allclose(int8.sample().input, ALL.prepare(picture), atol=1e-6)
    assert int8.manifest.preprocessing == plain.manifest.preprocessing
    assert int8.manifest.parity
    assert min(row["cosine"] for row in int8.manifest.parity["rows"]) >= INT8_COSINE
    assert any("images are prepared with" in note for note in int8.manifest.parity["notes"])

"""Apple's own runtime gives of an `.aimodel` what PyTorch gives, on this machine too."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import evm_deploy
from evm_deploy import Bundle, ExportOptions
from evm_deploy.errors import BundleError, CheckFailed, InputError, MissingToolError, OptionError
from evm_deploy.exporters import recurrence
from evm_deploy.models import EfficientVMamba
from evm_deploy.optional import coreai, coreai_torch
from evm_deploy.runtimes.aimodel import CoreAiOperation, find_broken_rules, open_asset, read_operations
from evm_deploy.runtimes.coreai import RULES_KEPT, CoreAiRunner, find_ways, open_bundle
from evm_deploy.scan import static
from evm_deploy.tolerances import GOLDEN_COREML_FP16, GOLDEN_LOGITS, PARITY, RECURRENCE

pytestmark = pytest.mark.skipif(
    find_spec("coreai") is None or find_spec("coreai_torch") is None, reason="coreai-core, coreai-torch not installed"
)
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.safetensors"
OPTIONS = ExportOptions(
    target="coreai", image_size=(32, 32), author="a", licence="b", version="c", description="d", labels=None
)


@pytest.fixture(scope="module")
def bundle(two_stages: Callable[..., EfficientVMamba], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("coreai")
    (folder / "labels.txt").write_text("".join(f"label {i}\n" for i in range(10)))
    options = ExportOptions(**vars(OPTIONS) | {"labels": folder / "labels.txt"})
    return evm_deploy.export(two_stages().eval(), folder / "out", options).bundle


def test_the_gate_runs_it_by_apples_runtime(bundle: Bundle, two_stages: Callable[..., EfficientVMamba]) -> None:
    rows = (bundle.manifest.parity or {})["rows"]
    assert {row["runtime"] for row in rows} == {"core ai"}
    assert max(row["relative"] for row in rows) <= 1e-5
    assert RULES_KEPT in (bundle.manifest.parity or {})["notes"]
    scans = (bundle.manifest.parity or {})["scans"]
    assert scans["count"] == scans["compared"] == 1
    assert scans["relative"] <= RECURRENCE["fp32"]
    assert evm_deploy.verify(bundle.path).passed


def test_it_takes_one_image_of_its_size(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    image = np.ones((1, 3, 32, 32), np.float32)
    with open_bundle(bundle) as runner:
        (one,), (two,) = runner.run(image), runner.run(-image)
        assert one.shape == (1, 10)
        assert np.abs(one - two).max() > 0
        np.testing.assert_array_equal(runner.run(image)[0], one)
        for other in (image[..., :31], image.astype(np.float64), np.zeros((2, 3, 32, 32), np.float32)):
            with pytest.raises(BundleError, match=r"^Core AI cannot run the model on float(32|64) \("):
                runner.run(other)
    assert capfd.readouterr() == ("", "")


def test_it_runs_inside_of_a_loop(bundle: Bundle) -> None:
    """As in a notebook."""

    async def run() -> int:
        with open_bundle(bundle) as runner:
            return len(runner.run(np.ones((1, 3, 32, 32), np.float32)))

    assert asyncio.run(run()) == 1


def test_inspect_says_what_it_is(bundle: Bundle) -> None:
    facts = evm_deploy.inspect(bundle.model_path).facts
    assert facts["functions"] == ["main"]
    assert facts["metadata"]["author"] == "a"
    assert facts["metadata"]["license"] == "b"
    assert facts["metadata"]["version"] == "c"
    assert facts["metadata"]["description"] == "d"
    assert facts["metadata"]["labels"] == list(bundle.labels() or ())
    assert facts["kept_off_the_neural_engine_by"] == []
    assert facts["largest_rank"] == 5
    assert facts["operators"]["conv2d"] > 3
    assert set(facts["float_operations"]) == {"f32"}
    assert evm_deploy.inspect(bundle.path).facts["coreai"]["functions"] == ["main"]


def test_what_keeps_a_program_off_the_neural_engine(bundle: Bundle) -> None:
    assert find_broken_rules(read_operations(open_asset(bundle.model_path))) == []
    operations = [
        CoreAiOperation("add", "f32", (1,) * 5),
        CoreAiOperation("reshape", "f32", (1,) * 6),
        CoreAiOperation("mul", "f32", (1, -1)),
        CoreAiOperation("constant", "f64", ()),
    ]
    assert find_broken_rules(operations) == [
        "more than 5 axes (reshape)",
        "a shape that is not fixed (mul)",
        "float64 (constant)",
    ]


def test_a_lost_carry_does_not_pass(
    two_stages: Callable[..., EfficientVMamba], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "_carry_states", lambda decay, end: torch.zeros_like(end))
    with pytest.raises(CheckFailed, match=r"the recurrence of the scan of layers\.0\..* on core ai for .* is off by"):
        evm_deploy.export(two_stages().eval(), tmp_path / "out", OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bytes_left", [0, 10, 100_000])
def test_a_damaged_program_is_refused(bundle: Bundle, tmp_path: Path, bytes_left: int) -> None:
    """Which ends the process of who compiles it."""
    path = tmp_path / "model.aimodel"
    shutil.copytree(bundle.model_path, path)
    program = path / "main.mlirb"
    program.write_bytes(program.read_bytes()[:bytes_left])
    with pytest.raises(BundleError, match="holds no program of Core AI that can be read"):
        CoreAiRunner(path)
    with pytest.raises(BundleError, match="holds no program of Core AI that can be read"):
        evm_deploy.inspect(path)


def test_another_program_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    (copy / "model.aimodel" / "main.mlirb").write_bytes(b"ML\xefR" + bytes(100))
    with pytest.raises(BundleError, match="is not the file that was exported"):
        evm_deploy.predict(copy, [])
    (copy / "model.aimodel" / "main.mlirb").unlink()
    (copy / "model.aimodel" / "main.mlirb").symlink_to(bundle.model_path / "main.mlirb")
    with pytest.raises(BundleError, match="is a link, which may leave the folder"):
        evm_deploy.predict(copy, [])
    (tmp_path / "x.aimodel").mkdir()
    (tmp_path / "x.aimodel" / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match="is no model of Core AI"):
        CoreAiRunner(tmp_path / "x.aimodel")


def test_what_cannot_be_done_is_said_in_a_line(
    bundle: Bundle, two_stages: Callable[..., EfficientVMamba], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="there are no integer models for coreai here"):
        evm_deploy.quantize(bundle.path, [np.zeros((32, 32, 3), np.uint8)], tmp_path / "int8")
    with pytest.raises(OptionError, match="the target coreai has no option --dynamic-size"):
        ExportOptions(target="coreai", dynamic_size=True)
    for module, library in (("coreai.authoring.asset", coreai), ("coreai_torch", coreai_torch)):
        library.cache_clear()
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingToolError, match=f"^{module.split('.')[0].replace('_', '-')}.* cannot be imported"):
            evm_deploy.export(two_stages().eval(), tmp_path / "out", OPTIONS)
        monkeypatch.undo()
        library.cache_clear()
    assert list(tmp_path.iterdir()) == []


class Sixth(torch.nn.Module):
    """Scores that need an operation which Core AI has not."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(image.flatten(1, 2))


def test_an_operation_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="linalg_svd"):
        evm_deploy.export(Sixth(), tmp_path / "out", OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro", "tiny", "small", "base"])
def test_goldens(golden, exported: Callable[..., Bundle], name: str) -> None:  # type: ignore[no-untyped-def]
    bundle = exported(name, target="coreai", image_size=(224, 224))
    with open_bundle(bundle) as runner:
        found = torch.from_numpy(runner.run(golden.image(224, 224).numpy())[0])
    assert golden.error(f"{name}_logits_224x224", found) <= GOLDEN_LOGITS
    assert RULES_KEPT in find_ways(bundle).notes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "micro", "tiny"])
def test_goldens_in_float16(golden, exported: Callable[..., Bundle], name: str) -> None:  # type: ignore[no-untyped-def]
    side = 64 if name == "digits" else 224
    bundle = exported(name, target="coreai", precision="fp16", image_size=(side, side), verify=name == "digits")
    operations = read_operations(open_asset(bundle.model_path))
    assert find_broken_rules(operations) == []
    products = ("conv2d", "broadcasting_batch_matmul")
    assert {each.dtype for each in operations if each.kind in products} == {"f16"}
    if name == "digits":
        assert (bundle.manifest.parity or {})["scans"]["compared"] > 0
        return
    with open_bundle(bundle) as runner:
        found = torch.from_numpy(runner.run(golden.image(224, 224).numpy())[0])
    assert golden.error(f"{name}_logits_224x224", found) <= GOLDEN_COREML_FP16


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_a_lost_carry_does_not_pass_in_float16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Whether the recurrence is computed in float16 or stays float32."""
    monkeypatch.setattr(recurrence, "RECURRENCE_FP16", 0.0 if kept else 1.0)
    options = ExportOptions(target="coreai", precision="fp16", image_size=(64, 64))
    made = evm_deploy.export(DIGITS, tmp_path / "out", options).bundle
    assert bool((made.manifest.build or {})["recurrence_float32"]) == kept
    monkeypatch.setattr(static, "_carry_states", lambda decay, end: torch.zeros_like(end))
    with pytest.raises(CheckFailed, match=r"on core ai for .* is off by"):
        evm_deploy.export(DIGITS, tmp_path / "lost", options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bake_preprocessing": True}])
@pytest.mark.parametrize("name", ["digits", "backbone_micro"])
def test_other_networks(exported: Callable[..., Bundle], name: str, options: dict[str, bool]) -> None:
    bundle = exported(name, target="coreai", verify=True, **options)
    assert max(row["relative"] for row in (bundle.manifest.parity or {})["rows"]) <= PARITY["fp32"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("vmamba_v2_micro", False),
        ("vim_micro", False),
        ("retinanet_micro", True),
        ("maskrcnn_micro", True),
        ("upernet_micro", False),
    ],
)
def test_other_families(exported: Callable[..., Bundle], name: str, steps: bool) -> None:
    """steps: whether a graph beside the model has the last steps."""
    bundle = exported(name, target="coreai", image_size=(64, 64), verify=True)
    assert (bundle.manifest.last_steps is not None) == steps
    assert (bundle.manifest.parity or {})["passed"]

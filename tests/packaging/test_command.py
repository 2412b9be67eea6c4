"""`package`, and `verify` of what it wrote, as they are typed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evm_deploy import Bundle, cli

DIGITS = Path(__file__).parents[2] / "examples/digits"


@pytest.fixture(scope="module")
def digits(exported: Callable[..., Bundle]) -> Path:
    return exported("digits", labels=DIGITS / "labels.txt").path


def test_a_package_and_what_verify_says_of_it(
    digits: Path, tmp_path: Path, no_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "linux"
    assert cli.main(["package", str(digits), "--for", "linux", "--out", str(out), "--archive"]) == 0
    said = capsys.readouterr().out
    assert "digits: onnx fp32" in said
    assert f"wrote {out}.zip, sha256 " in said
    for path in (out, out.with_suffix(".zip")):
        assert cli.main(["verify", str(path)]) == 0
        assert "linux package EfficientVMamba" in capsys.readouterr().out
        assert cli.main(["predict", str(path), str(DIGITS / "images/held_out_003_is_3.png"), "--top", "1"]) == 0
        assert "0.9367  3" in capsys.readouterr().out
    assert cli.main(["verify", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert found["report"]["reports"]["digits"]["rows"][0]["passed"]

    model = out / "models/digits/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert cli.main(["verify", str(out)]) == 1
    assert "model.onnx" in capsys.readouterr().err


def test_a_package_that_does_not_give_its_golden_pair(
    digits: Path, tmp_path: Path, no_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hashes are right: it is a wrong model, packaged as it was."""
    import numpy as np

    from evm_deploy.bundle import Bundle, Draft, Sample

    wrong = Draft(Path(shutil.copytree(digits, tmp_path / "wrong")))
    bundle = Bundle.open(wrong.path)
    wrong.write_sample(Sample(bundle.sample().input, tuple(np.roll(one, 1) for one in bundle.sample().outputs)))
    wrong.seal(bundle.manifest)
    assert cli.main(["package", str(wrong.path), "--for", "linux", "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["verify", str(tmp_path / "out")]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("package {} --for androidd --out {}/x", "did you mean 'android'"),
        ("package {} --for ios --out x", "export it with --target coreml"),
        ("package {} --for linux --name 9 --out x", "--name '9'"),
        ("verify {} --public-key k", "packages are signed"),
        ("verify no-such-package.zip", "does not exist"),
    ],
)
def test_nonsense_is_one_line_and_a_fix(
    digits: Path, command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word.replace("{}", str(digits)) for word in command.split()]) == 2
    error, fix = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert fix.startswith("fix: ")
    assert words in error + fix

"""`profile`, `report` and `benchmark` as they are typed: options arrive, results are printed, exit codes are right."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from evm_deploy import cli
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.benchmarking.benchmark_report import BenchmarkReport, BenchmarkRow
from evm_deploy.errors import OptionError
from evm_deploy.profiling.profile_options import ProfileOptions, parse_cores
from evm_deploy.profiling.report import Conditions, DeviceFacts, Method, ProfileReport, Result
from evm_deploy.profiling.summaries import add_summaries


def report(*failures: str) -> ProfileReport:
    good = Result("good", "good", "onnxruntime", None, "onnx", "fp32", "0" * 64, 10, samples_ms=(1.0, 2.0, 3.0))
    bad = [Result(name, name, "onnxruntime", None, "onnx", "fp32", "0" * 64, 10, error="lost") for name in failures]
    method = Method(3, None, 1, True)
    made = ProfileReport(DeviceFacts("local", "here"), Conditions(), method, (good, *bad), "2026-01-02", "0.1.0")
    return add_summaries(made)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the functions of the pipeline were called with; `profile` answers the last item, if that is a report."""
    found: list[Any] = []

    def answer(*arguments: Any, **named: Any) -> Any:
        known = found.pop() if found and isinstance(found[-1], (ProfileReport, BenchmarkReport)) else report()
        found.append(arguments)
        return known

    monkeypatch.setattr("evm_deploy.pipeline.profile", answer)
    monkeypatch.setattr("evm_deploy.benchmarking.benchmark.benchmark", answer)
    return found


def test_profile_passes_every_option(calls: list[Any]) -> None:
    command = (
        "profile a b --device ssh://me@board:2222 --iterations 7 --seconds 2.5 --warm-up 3 --threads 4 "
        "--affinity 0,2-3 --provider cuda --no-library --every-way --operators --estimate pixel-7 "
        "--estimate raspberry-pi-5 --checkpoint t.pth --lan --runner r --app a.apk --timeout 9 "
        "--out o --html h --overwrite"
    )
    assert cli.main(command.split()) == 0
    [(bundles, options)] = calls
    assert bundles == [Path("a"), Path("b")]
    assert options == ProfileOptions(
        device="ssh://me@board:2222",
        iterations=7,
        seconds=2.5,
        warm_up=3,
        threads=4,
        affinity=(0, 2, 3),
        provider="cuda",
        library=False,
        every_way=True,
        operators=True,
        checkpoint=Path("t.pth"),
        lan=True,
        runner=Path("r"),
        app=Path("a.apk"),
        estimates=("pixel-7", "raspberry-pi-5"),
        out=Path("o"),
        html=Path("h"),
        overwrite=True,
        timeout=9,
    )


def test_defaults_are_those_of_the_functions(calls: list[Any]) -> None:
    assert cli.main(["profile", "a"]) == 0
    calls.append(BenchmarkReport("t.pth", (), None))
    assert cli.main(["benchmark", "t.pth"]) == 0
    assert [options for _, options in calls] == [ProfileOptions(), BenchmarkOptions()]


def test_profile_prints_a_table_or_the_document(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "a"]) == 0
    said = capsys.readouterr().out
    assert "good" in said
    assert "3 runs each" in said
    assert cli.main(["profile", "a", "--json"]) == 0
    assert ProfileReport.from_json(capsys.readouterr().out.encode()) == report()


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_a_bundle_that_was_not_measured_is_a_failure(
    calls: list[Any], capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    calls.append(report("bad"))
    assert cli.main(["profile", "a", *how]) == 1
    said = capsys.readouterr()
    assert "good" in said.out
    assert said.err.startswith("error: not measured: bad: lost.")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("profile a --device sssh://board", "did you mean 'ssh'"),
        ("profile a --device local:1", "has no address"),
        ("profile a --estimate orin", "estimate"),
        ("profile a --iterations 1", "--iterations 1"),
        ("profile a --seconds nan", "--seconds nan"),
        ("profile a --device browser --checkpoint t.pth", "PyTorch is not measured on browser"),
        ("report nothing-there.json", "cannot be read"),
        ("benchmark t.pth --target onx", "did you mean 'onnx'"),
    ],
)
def test_nonsense_is_one_line_and_a_fix(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(command)) == 2
    error, fix = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert fix.startswith("fix: ")
    assert words in error + fix


def test_report_reads_what_profile_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(report().to_json())
    assert cli.main(["report", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]) == 0
    assert "| good |" in capsys.readouterr().out
    assert "good" in (tmp_path / "a.html").read_text()
    assert cli.main(["report", str(tmp_path / "a.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profiles"][0]["results"][0]["name"] == "good"


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("not here", 0), ("failed", 1)])
def test_a_form_that_should_work_here_is_a_failure(
    calls: list[Any], status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    row = BenchmarkRow("onnx", "fp16", None, status, "a reason")
    calls.append(BenchmarkReport("t.pth", (row,), None))
    assert cli.main(["benchmark", "t.pth", "--target", "onnx", "--target", "coreml", "--image-size", "64x96"]) == code
    assert calls == [(Path("t.pth"), BenchmarkOptions(targets=("onnx", "coreml"), image_size=(64, 96)))]
    assert status in capsys.readouterr().out


@pytest.mark.parametrize(("text", "cores"), [("", ()), ("2", (2,)), ("0, 4-6", (0, 4, 5, 6)), ("3-3,3", (3,))])
def test_cores(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["3-1", ",", "0,", "-1", "a", "²", "0-99999", "1-2-3"])
def test_what_is_no_list_of_cores(text: str) -> None:
    with pytest.raises(OptionError, match="not a list of cores"):
        parse_cores(text)

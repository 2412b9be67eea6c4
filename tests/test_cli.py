"""The command line: what is parsed, what is printed where, and which exit code each failure has."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evm_deploy import Bundle, cli, console
from evm_deploy.diagnosis import Check
from evm_deploy.errors import BundleError, CheckFailed, CheckpointError, EvmDeployError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.models import EfficientVMamba, ModelConfig
from evm_deploy.pipeline import ExportResult
from evm_deploy.prediction import Prediction
from evm_deploy.showing.findings import DetectedThings, Detection
from evm_deploy.verification.parity import ParityReport, ParityRow

ROW = ParityRow("stock", "random", "logits", 1e-6, 1e-6, 1.0, float("inf"), 1.0, passed=True)
CHOICES = ("the weights are those under model", "images are prepared with crop_pct 0.9 by args")
BUNDLE: Any = SimpleNamespace(
    path=Path("out"), manifest=SimpleNamespace(calibration=None, describe_choices=lambda: CHOICES)
)
PASSED = ParityReport("PyTorch", 1e-4, (ROW,))


class Calls(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    """A stand-in for a function of the pipeline: it records, and answers or raises what it is told."""

    answer: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.append((args, kwargs))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    calls.answer = ExportResult(BUNDLE, PASSED)
    monkeypatch.setattr("evm_deploy.pipeline.export", calls)
    return calls


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


# export


def test_export_passes_every_option(exports: Calls) -> None:
    command = (
        "export t.pth --out out --precision fp16 --image-size 192x257 --opset 18 --dynamic-batch --dynamic-size "
        "--bake-preprocessing --softmax --labels l.txt --scan-form inlined --key ema --images photos --no-verify "
        "--overwrite --mean -0.5,0.25,0 --std 1,1,1 --crop-pct 0.9 --interpolation nearest --resize letterbox "
        "--channels BGR --fill 114"
    )
    assert cli.main(command.split()) == 0
    ((checkpoint, out, options), keywords) = exports[0]
    assert (checkpoint, out) == (Path("t.pth"), Path("out"))
    assert set(keywords) == {"progress"}
    assert options == ExportOptions(
        precision="fp16",
        image_size=(192, 257),
        opset=18,
        dynamic_batch=True,
        dynamic_size=True,
        bake_preprocessing=True,
        mean=(-0.5, 0.25, 0),
        std=(1, 1, 1),
        crop_pct=0.9,
        interpolation="nearest",
        resize="letterbox",
        channels="BGR",
        fill=114,
        softmax=True,
        labels=Path("l.txt"),
        scan_form="inlined",
        key="ema",
        images=Path("photos"),
        verify=False,
        overwrite=True,
    )


def test_export_has_the_defaults_of_the_function(exports: Calls) -> None:
    assert cli.main(["export", "t.pth", "--out", "out"]) == 0
    assert exports[0][0][2] == ExportOptions()


def test_export_prints_the_result_on_stdout_and_progress_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(*_: Any, progress: Any) -> ExportResult:
        progress("folding")
        return ExportResult(BUNDLE, PASSED)

    monkeypatch.setattr("evm_deploy.pipeline.export", export)
    assert cli.main(["export", "t.pth", "--out", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "folding\n"
    assert "wrote out" in captured.out
    assert "stock" in captured.out


def test_export_json_is_one_object(exports: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "t.pth", "--out", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"] == "out"
    assert found["passed"] is True
    assert found["report"]["rows"][0]["psnr"] is None  # JSON has no infinity


def test_export_without_verification_says_so(exports: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    exports.answer = ExportResult(exports.answer.bundle, None, ("ignored: total_ops",))
    assert cli.main(["export", "t.pth", "--out", "out", "--no-verify"]) == 0
    assert lines(capsys.readouterr().out) == ["ignored: total_ops", *CHOICES, "wrote out, not verified"]
    assert cli.main(["export", "t.pth", "--out", "out", "--no-verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle": "out",
        "passed": None,
        "report": None,
        "notes": ["ignored: total_ops"],
    }


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("192x256", (192, 256)), ("33", (33, 33)), ("32x4096", (32, 4096))]
)
def test_image_sizes(exports: Calls, text: str, size: tuple[int, int]) -> None:
    assert cli.main(["export", "t.pth", "--out", "out", "--image-size", text]) == 0
    assert exports[0][0][2].image_size == size


@pytest.mark.parametrize(
    "text", ["31", "0", "-224", "224x", "x224", "224x31", "4097", "1e3", "224.0", "a", "", "9" * 5000, "1x2x3", "٢٢٤"]
)
def test_image_sizes_that_are_none(exports: Calls, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert cli.main(["export", "t.pth", "--out", "out", "--image-size", text]) == 2
    assert not exports
    assert lines(capsys.readouterr().err)[0].startswith("error: ")


# verify, predict, inspect, doctor


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passed: bool, code: int) -> None:
    calls = Calls()
    row = ParityRow("stock", "photo", "logits", 0.1, 0.1, 0.9, 20.0, 0.5, passed=passed)
    calls.answer = ParityReport("PyTorch", 1e-4, (row,), None if passed else "layers.0.blocks.1", ("no library",))
    monkeypatch.setattr("evm_deploy.pipeline.verify", calls)
    assert cli.main(["verify", "out", "--checkpoint", "t.pth", "--images", "photos"]) == code
    assert calls[0][0] == (Path("out"),)
    assert calls[0][1]["checkpoint"] == Path("t.pth")
    assert calls[0][1]["images"] == Path("photos")
    text = capsys.readouterr().out
    assert ("passed" if passed else "failed") in lines(text)[-1]
    assert ("layers.0.blocks.1" in text) == (not passed)
    assert "note: no library" in text
    assert cli.main(["verify", "out", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["passed"] is passed


def test_predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = Calls()
    calls.answer = [Prediction(Path("a.png"), (("tabby [cat]", 0.9), ("dog", 0.1)))]
    monkeypatch.setattr("evm_deploy.pipeline.predict", calls)
    assert cli.main(["predict", "out", "a.png", "b.png", "--top", "2", "--no-library"]) == 0
    assert calls == [((Path("out"), [Path("a.png"), Path("b.png")]), {"top": 2, "library": False, "save": None})]
    text = capsys.readouterr().out
    assert lines(text)[0] == "a.png"
    assert "0.9000  tabby [cat]" in text
    assert cli.main(["predict", "out", "a.png", "--json"]) == 0
    top = json.loads(capsys.readouterr().out)["predictions"][0]["top"]
    assert top == [{"label": "tabby [cat]", "probability": 0.9}, {"label": "dog", "probability": 0.1}]


def test_predict_as_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    things = tuple(Detection((1.0, 2.0, 4.5, 9.0), score, 1, 'a "cat", tabby', (9, 9)) for score in (0.75, 0.5))
    found = [Prediction(Path(name), (), DetectedThings(given)) for name, given in (("a.png", ()), ("b.png", things))]
    for answer, rows in (
        (
            [Prediction(Path("a.png"), (("cat", 0.9), ("dog", 0.1)))],
            ["image,label,probability", "a.png,cat,0.9", "a.png,dog,0.1"],
        ),
        (
            found,
            [
                "image,label,score,x,y,width,height",
                *(f'b.png,"a ""cat"", tabby",{s},1.0,2.0,3.5,7.0' for s in (0.75, 0.5)),
            ],
        ),
    ):
        calls = Calls()
        calls.answer = answer
        monkeypatch.setattr("evm_deploy.pipeline.predict", calls)
        assert cli.main(["predict", "out", "a.png", "--csv"]) == 0
        assert capsys.readouterr().out.splitlines() == rows
    assert cli.main(["predict", "out", "a.png", "--csv", "--json"]) == 2
    assert "two forms of one output" in capsys.readouterr().out


def test_inspect_a_bundle(tmp_path: Path, make_bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_bundle(tmp_path / "out", model_file="sample")
    assert cli.main(["inspect", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "bundle"
    assert cli.main(["inspect", str(tmp_path / "out")]) == 0
    assert "classification" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "required", "code"), [("ok", True, 0), ("old", True, 2), ("missing", False, 0)])
def test_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Any, required: bool, code: int
) -> None:
    check = Check("onnxruntime", status, "1.19", "pip install ...", required)
    monkeypatch.setattr("evm_deploy.diagnosis.doctor", lambda: [check])
    assert cli.main(["doctor"]) == code
    assert "1.19" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["checks"][0]["status"] == status


# Failures


@pytest.mark.parametrize(
    ("command", "near"),
    [
        ("exprot t.pth", "export"),
        ("export t.pth --out out --opsett 20", "--opset"),
        ("export t.pth --out out --target onx", "onnx"),
        ("export t.pth --out out --precision fp-16", "fp16"),
        ("export t.pth --out out --scan-form operators", "operator"),
    ],
)
def test_a_typo_gets_the_nearest_name(
    exports: Calls, capsys: pytest.CaptureFixture[str], command: str, near: str
) -> None:
    assert cli.main(command.split()) == 2
    assert not exports
    text = capsys.readouterr().err
    assert "did you mean" in text.lower()
    assert near in text.lower().split("did you mean")[1]


@pytest.mark.parametrize(
    "command",
    ["export", "export t.pth", "export t.pth --out", "export t.pth --out out --opset x", "predict out", "inspect",
     "export t.pth --out out --opset 7", "predict out a.png --top 0", "--nothing", "verify a b"],
)  # fmt: skip
def test_wrong_usage_is_an_error_and_a_fix(exports: Calls, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main(command.split()) == 2
    captured = capsys.readouterr()
    error, fix = lines(captured.err)
    assert error.startswith("error: ")
    assert fix.startswith("fix: ")
    assert captured.out == ""
    first, *rest = command.split()
    assert cli.main([first, "--json", *rest]) == 2
    assert json.loads(capsys.readouterr().out)["error"].keys() == {"cause", "fix", "exit_code"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("t.pth is\ntruncated \x1b[31m[red].", "download it again."), 2),
        (CheckFailed("it differs.", "report it."), 1),
        (MemoryError(), 2),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 2),
        (ZeroDivisionError("a fault"), 70),
        (KeyboardInterrupt(), 130),
        (PermissionError(errno.EACCES, "Permission denied", "labels.txt"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
    ],
)
def test_exit_codes(
    exports: Calls,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    monkeypatch.delenv("EVM_DEPLOY_DEBUG", raising=False)
    exports.answer = error
    assert cli.main(["export", "t.pth", "--out", "out"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(lines(captured.err)) == (1 if code == 130 else 2)
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err
    if isinstance(error, EvmDeployError):
        assert lines(captured.err)[1] == f"fix: {error.fix}"
    assert cli.main(["export", "t.pth", "--out", "out", "--json"]) == code
    found = json.loads(capsys.readouterr().out)["error"]
    assert found["exit_code"] == code
    if isinstance(error, EvmDeployError):
        assert (found["cause"], found["fix"]) == (error.cause, error.fix)


def test_a_lack_of_memory_is_not_taken_for_a_damaged_bundle(exports: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    exports.answer = BundleError("onnxruntime cannot load the model: bad allocation.", "export the model again.")
    exports.answer.__cause__ = RuntimeError("std::bad_alloc")
    assert cli.main(["export", "t.pth", "--out", "out"]) == 2
    assert lines(capsys.readouterr().err)[0] == "error: there is not enough memory for this."


def test_a_lack_of_memory_is_said_without_any(
    exports: Calls, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: str) -> None:
        raise MemoryError

    exports.answer = MemoryError()
    monkeypatch.setattr(console, "print_error", fail)
    assert cli.main(["export", "t.pth", "--out", "out"]) == 2
    assert capfd.readouterr().err == "error: there is not enough memory for this.\n"


def test_failed_checks_print_their_results_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = SimpleNamespace(to_dict=lambda: {"passed": False}, passed=False, failures=["top-1 is 0.1"])
    monkeypatch.setattr("evm_deploy.pipeline.evaluate", lambda *_, **__: report)
    assert cli.main(["evaluate", "out", "--data", "random:2", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"passed": False}
    assert "error: top-1 is 0.1" in captured.err


def test_libraries_do_not_speak_to_the_user(
    exports: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Neither in warnings, nor by what torch leaves in the folder of temporary files."""

    def export(*_: Any, **__: Any) -> ExportResult:
        warnings.warn("a word of a library", UserWarning, stacklevel=1)
        (folder := Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])).joinpath("left").touch()
        assert folder.parent == tmp_path
        return ExportResult(BUNDLE, PASSED)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr("evm_deploy.pipeline.export", export)
    assert cli.main(["export", "t.pth", "--out", "out"]) == 0
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_is_there_when_asked_for(
    exports: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVM_DEPLOY_DEBUG", "1")
    exports.answer = ZeroDivisionError("a fault")
    assert cli.main(["export", "t.pth", "--out", "out"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left on device")])
def test_progress_that_nobody_can_read_stops_nothing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    with console.show_progress() as say:
        say("reading")


def test_a_run_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    command = [sys.executable, "-m", "evm_deploy", "doctor"]
    subprocess.run(command, env={**os.environ, **home}, capture_output=True, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def test_a_long_error_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error("word " * 100, "fix")
    assert len(lines(capsys.readouterr().err)) == 2


@pytest.mark.parametrize("command", ["verify {0}", "predict {0} a.png", "profile {0}", "evaluate {0} --data data"])
def test_a_checkpoint_in_the_place_of_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "t.pth")
    assert cli.main(command.format(tmp_path / "t.pth").split()) == 2
    error, fix = lines(capsys.readouterr().err)[-2:]
    assert error.endswith("t.pth is not a folder, as bundles are.")
    assert "of a checkpoint, export one" in fix


@pytest.mark.parametrize("command", ["verify {0}", "predict {0} a.png", "profile {0}", "evaluate {0} --data data"])
def test_the_model_file_of_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_bundle: Any, command: str
) -> None:
    path = make_bundle(tmp_path / "out").model_path
    assert cli.main(command.format(path).split()) == 2
    assert lines(capsys.readouterr().err)[-1] == f"fix: name its folder: {path.parent}."


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export t.pth --out out --precision int8", "evm-deploy quantize BUNDLE"),
        ("export t.pth --out out --target coreml --precision uint8", "evm-deploy quantize BUNDLE"),
        ("profile out --device jetson", "ssh://jetson; kinds of devices are local, ssh://[user@]host[:port], adb"),
        ("profile out --device nano@192.168.1.5:2222", "ssh://nano@192.168.1.5:2222;"),
        ("profile out --device sssh://board", "did you mean 'ssh'?"),
    ],
)
def test_the_way_is_named(capsys: pytest.CaptureFixture[str], command: str, words: str) -> None:
    assert cli.main(command.split()) == 2
    assert words in lines(capsys.readouterr().err)[-1]


# As a program


def program(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "evm_deploy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_command() -> None:
    for arguments in (("--help",), ("-h",), ()):
        done = program(*arguments)
        assert done.returncode == 0
        for name in ("export", "verify", "predict", "inspect", "doctor"):
            assert name in done.stdout


def test_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "none.pth", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "none.pth" in said
    assert [line.split(":")[0] for line in lines(said)][-2:] == ["error", "fix"]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = program("export", "none.pth", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert lines(done.stderr)[0].endswith("out exists.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    end_with(number, tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals on this system")
def test_a_background_job_ends_by_sigterm(tmp_path: Path) -> None:
    """A script's shell starts `command &` with SIGINT ignored."""
    end_with(signal.SIGTERM, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))


def end_with(number: signal.Signals, tmp_path: Path, **how: Any) -> None:
    """Starts an export, sends it the signal while it writes, and checks that nothing is left."""
    script = (
        "import sys, time\n"
        "from evm_deploy import cli, pipeline\n"
        "from evm_deploy.bundle import write_bundle\n"
        "def export(checkpoint, out, options, *, progress):\n"
        "    with write_bundle(out) as draft:\n"
        "        (draft.path / 'model.onnx').write_bytes(b'half')\n"
        "        progress('writing')\n"
        "        eval('time.sleep(60)')\n"  # `python -m` remembers an interrupt there, even one that was handled
        "pipeline.export = export\n"
        "sys.exit(cli.main(['export', 't.pth', '--out', sys.argv[1]]))\n"
    )
    (tmp_path / "slow_export.py").write_text(script)
    command = [sys.executable, "-m", "slow_export", str(tmp_path / "new" / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **how) as running:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("new/.out*/out/model.onnx")):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        _, text = running.communicate(timeout=30)
    assert running.returncode == 130
    assert lines(text)[-1] == "interrupted"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("terminal", [False, True])
def test_names_in_progress_are_no_markup_and_control_nothing(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.Console, "is_terminal", terminal)
    with console.show_progress() as say:
        say("reading [/] \x1b]0;title\x07 [red]cache")
    assert "\x1b]0;" not in capsys.readouterr().err


def test_an_export_to_a_full_disk(small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = EfficientVMamba(ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), num_classes=10))
    torch.save(network.state_dict(), tmp_path / "micro.pth")  # 1.4 MB, on a disk of 1 MB
    code = cli.main(["export", str(tmp_path / "micro.pth"), "--out", str(small_disk / "out"), "--image-size", "64"])
    assert code == 2
    assert "disk is full" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="redirects as POSIX shells do")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help >&-", 0),
        ("inspect BUNDLE >&-", 0),
        ("doctor >&- 2>&-", 0),
        ("predict /none a.png 2>&-", 2),
        ("predict /none a.png 2>/dev/full", 2),
        ("inspect BUNDLE --json >/dev/full", 2),
        ("inspect BUNDLE | true", 141),
        ("--version | true", 141),
    ],
)
def test_streams_that_are_closed_or_full(exported: Callable[..., Bundle], arguments: str, code: int) -> None:
    if "/dev/full" in arguments and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    if "BUNDLE" in arguments:
        arguments = arguments.replace("BUNDLE", str(exported("digits").path))
    command = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m evm_deploy {arguments}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are any bytes")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_terminal_cannot_print(encoding: str) -> None:
    name, label = os.fsdecode(b"caf\xe9.png"), "na\u00efve"
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evm_deploy import cli, pipeline\n"
        "from evm_deploy.prediction import Prediction\n"
        f"pipeline.predict = lambda *a, **k: [Prediction(Path(sys.argv[1]), (({label!r}, 1.0),))]\n"
        "sys.exit(cli.main(['predict', 'out', *sys.argv[1:]]))\n"
    )
    for options in ([], ["--json"]):
        command = [sys.executable, "-c", script, name, *options]
        done = subprocess.run(
            command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False
        )
        assert done.returncode == 0, done.stderr
        if options:
            (found,) = json.loads(done.stdout)["predictions"]
            assert found["image"] == "caf%E9.png"  # which any parser of JSON reads
            assert found["top"][0]["label"] == label


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m evm_deploy export --help | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""

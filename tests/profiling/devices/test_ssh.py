"""The device ssh against a real sshd on this machine."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evm_deploy.errors import DeviceError, MissingToolError, OptionError
from evm_deploy.profiling.devices import connection, find_device, ssh
from evm_deploy.profiling.devices.connection import Connection
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

# An agent that is at work for as long as one lets it, and the libraries that it would need.
AT_WORK = "import time\nprint('timing', flush=True)\ntime.sleep(60)\n"
LIBRARIES = {
    "numpy": "__version__ = '2.0'\n",
    "onnxruntime": "__version__ = '1.20'\nget_available_providers = lambda: ['CPUExecutionProvider']\n",
}
OPTIONS = ProfileOptions(device="ssh://board", iterations=5, warm_up=1, timeout=60)
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def server(sshd: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@dataclass
class Place:
    """The temporary folders of this side and of the other, and the Python there."""

    here: Path
    there: Path
    python: Callable[..., None]
    pretend: Callable[[], None]  # that there is the agent of AT_WORK, and its libraries


@pytest.fixture
def place(server: Any, sshd: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Whatever a test does, nothing may be left on either side."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()

    def python(before: str = "", program: str = sys.executable, folder: Path = there) -> None:
        named = sshd.python(tmp_path / "python", f"export TMPDIR='{folder}'\n{before}", program)
        monkeypatch.setenv(ssh.PYTHON, named)

    def pretend() -> None:
        (tmp_path / "libraries").mkdir()
        for name, text in LIBRARIES.items():
            (tmp_path / "libraries" / f"{name}.py").write_text(text)
        python(f"export PYTHONPATH='{tmp_path / 'libraries'}'")
        monkeypatch.setattr(ssh.zipped, "write_agent", lambda path: path.write_text(AT_WORK) and path)

    python()
    monkeypatch.setenv(ssh.COMMAND, server.command)
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    yield Place(here, there, python, pretend)
    until = time.monotonic() + 20
    while list(there.iterdir()) or sshd.working_in(there):
        assert time.monotonic() < until, f"left there: {list(there.iterdir())} {sshd.working_in(there)}"
        time.sleep(0.05)
    assert list(here.iterdir()) == []
    ours = [pid for pid in sshd.descendants(os.getpid()) if sshd.name(pid) == "ssh"]
    assert ours == []


def profile(bundles: list[Path], said: Callable[[str], None] = lambda stage: None, **changes: Any) -> ProfileReport:
    options = dataclasses.replace(OPTIONS, **changes)
    module, address = find_device(options.device)
    return module.measure(address, bundles, options, said)


def test_the_same_profile_as_of_this_machine(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    bundles = [small_bundle(tmp_path / "one").path, small_bundle(tmp_path / "two", bias=2.0).path]
    stages: list[str] = []
    there = profile(bundles, stages.append)
    here = profile(bundles, device="local")
    assert [result.name for result in there.results] == ["one", "two"]
    assert all(result.error is None and len(result.samples_ms) == 5 for result in there.results)
    assert all(result.golden and result.golden.passed for result in there.results)
    assert (there.device.kind, here.device.kind) == ("ssh", "local")
    assert dataclasses.replace(there.device, kind="local") == here.device
    for mine, other in zip(here.results, there.results, strict=True):
        assert (mine.sha256, mine.size_bytes, mine.runtime) == (other.sha256, other.size_bytes, other.runtime)
    assert ProfileReport.from_json(there.to_json().encode()) == there
    assert any(stage.startswith("sending") for stage in stages)


def test_every_way_behind_a_login_shell_that_greets(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    place.python("echo 'Welcome to board'; printf 'you have mail: '")
    results = profile([small_bundle(tmp_path / "one").path], every_way=True).results
    assert [result.name for result in results] == ["one on onnxruntime", "one on onnxruntime + evm_ops"]
    assert [result.error for result in results] == [None, None]


def test_one_bundle_twice_and_one_that_is_wrong_there(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "one").path
    first, wrong, second = profile([path, small_bundle(tmp_path / "wrong", golden=False).path, path]).results
    assert second.name == f"{first.name} (2)"
    assert first.error is second.error is None
    assert wrong.error
    assert wrong.samples_ms == ()


def test_the_connection_is_killed_in_the_middle(
    place: Place, server: Any, sshd: ModuleType, small_bundle: Make, tmp_path: Path
) -> None:
    stages: list[str] = []

    def cut(stage: str) -> None:
        stages.append(stage)
        if stage.startswith("timing") and len(sshd.working_in(place.there)):
            assert list(place.there.iterdir())
            assert server.cut() > 0

    with pytest.raises(DeviceError, match="connection to board is lost"):
        profile([small_bundle(tmp_path / "one").path], cut, seconds=600)
    assert any(stage.startswith("timing") for stage in stages)


def test_the_connection_is_killed_while_files_are_sent(
    place: Place, server: Any, small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.pretend()
    real = connection._encode_order

    def cut(*arguments: Any) -> Iterator[bytes]:
        for index, block in enumerate(real(*arguments)):
            if index == 2:
                server.cut()
            yield block

    monkeypatch.setattr(connection, "_encode_order", cut)
    with pytest.raises(DeviceError, match="connection to board is lost"):
        profile([small_bundle(tmp_path / "one").path])


def test_ctrl_c_ends_the_other_side_too(
    place: Place, small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.pretend()
    made: list[Connection] = []
    monkeypatch.setattr(ssh, "Connection", lambda *arguments: made.append(Connection(*arguments)) or made[-1])

    def interrupt(stage: str) -> None:
        if stage.startswith("timing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile([small_bundle(tmp_path / "one").path], interrupt, seconds=600)
    assert made[0]._process.returncode == 1  # it has heard of it, and did not have to be killed


def test_the_agent_is_killed_there(place: Place, sshd: ModuleType, small_bundle: Make, tmp_path: Path) -> None:
    place.pretend()

    def kill(stage: str) -> None:
        if stage.startswith("timing"):
            for pid in sshd.working_in(place.there):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(DeviceError, match="measuring on board failed"):
        profile([small_bundle(tmp_path / "one").path], kill, seconds=600)


def test_the_agent_says_why_it_cannot(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="4000"):
        profile([small_bundle(tmp_path / "one").path], affinity=(4000,))


def test_a_file_that_arrives_changed(
    place: Place, small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.pretend()
    monkeypatch.setattr(connection, "sha256_file", lambda path: "0" * 64)
    with pytest.raises(DeviceError, match="changed on the way to board"):
        profile([small_bundle(tmp_path / "one").path])


def test_a_disk_that_has_no_room(place: Place, small_bundle: Make, tmp_path: Path, small_disk: Path) -> None:
    place.python(folder=small_disk)
    with pytest.raises(DeviceError, match="disk of board is full"):
        profile([small_bundle(tmp_path / "one").path])
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_files_arrive(
    place: Place, small_bundle: Make, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.python(folder=small_disk)
    monkeypatch.setattr(ssh, "_check_room", lambda *arguments: None)
    labels = tmp_path / "large"
    bundle = small_bundle(tmp_path / "one")
    labels.write_bytes(os.urandom(4 << 20))
    monkeypatch.setattr(ssh.sent, "list_bundle_files", lambda folders: [ssh.sent.SentFile("bundles/0/large", labels)])
    with pytest.raises(DeviceError, match="disk of board is full"):
        profile([bundle.path])
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "cause", "fix"),
    [
        ("no-such-host.invalid", "there is no host", "correct the name"),
        ("stranger", "does not let you in", "ssh-copy-id"),
        ("unknown", "host key", "accept it"),
    ],
)
def test_why_there_is_no_connection(
    place: Place, small_bundle: Make, tmp_path: Path, address: str, cause: str, fix: str
) -> None:
    with pytest.raises(DeviceError) as error:
        profile([small_bundle(tmp_path / "one").path], device=f"ssh://{address}")
    assert cause in error.value.cause
    assert fix in error.value.fix


def test_a_port_where_nobody_listens(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(DeviceError, match="refuses ssh connections"):
            profile([small_bundle(tmp_path / "one").path], device=f"ssh://board:{closed.getsockname()[1]}")


def test_no_python_there(place: Place, small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.PYTHON, "/nowhere/bin/python3")
    with pytest.raises(DeviceError, match="has no such Python") as error:
        profile([small_bundle(tmp_path / "one").path])
    assert ssh.PYTHON in error.value.fix


def test_an_old_python_there(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    place.python('shift; set -- -c "$(printf %s "$1" | sed "s/(3, 8)/(99, 0)/")"')
    with pytest.raises(DeviceError, match=r"too old \(needs Python 3.8, this is 3\."):
        profile([small_bundle(tmp_path / "one").path])


def test_no_numpy_there(place: Place, small_bundle: Make, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    place.python(program=str(tmp_path / "bare/bin/python"))
    with pytest.raises(DeviceError, match="no numpy") as error:
        profile([small_bundle(tmp_path / "one").path])
    assert "pip install numpy onnxruntime" in error.value.fix


def test_a_machine_that_falls_silent(
    place: Place, small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FAREWELL", 0.2)
    place.python(program="/bin/sleep", before="set -- 3")
    with pytest.raises(DeviceError, match="no sign of life for 1 s"):
        profile([small_bundle(tmp_path / "one").path], timeout=1)


@pytest.mark.parametrize(
    "text", ["ssh", "ssh:", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://a:0", "ssh://a/b"]
)
def test_addresses_that_name_no_host(text: str) -> None:
    module, address = find_device(text)
    with pytest.raises(OptionError, match="names no host"):
        module.measure(address, [], OPTIONS, lambda stage: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("board", ssh.Address("board")),
        ("me@board.local:2222", ssh.Address("board.local", "me", 2222)),
        ("me@[fe80::1%eth0]:22/", ssh.Address("fe80::1%eth0", "me", 22)),
    ],
)
def test_addresses(text: str, expected: ssh.Address) -> None:
    assert ssh.Address.parse(text) == expected


@pytest.mark.parametrize("changes", [{"checkpoint": Path("x.pth")}, {"operators": True}, {"lan": True}])
def test_options_for_other_devices_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="does not go with --device ssh"):
        profile([], **changes)


def test_no_ssh_here(small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.COMMAND, str(tmp_path / "ssh"))
    with pytest.raises(MissingToolError, match="not installed"):
        profile([small_bundle(tmp_path / "one").path])

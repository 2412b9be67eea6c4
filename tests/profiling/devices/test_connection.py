"""The near side of a connection, with something else than our program at its other end."""

import ast
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evm_deploy.errors import DeviceError
from evm_deploy.profiling.devices import connection, refusals
from evm_deploy.profiling.devices.connection import Connection
from evm_deploy.profiling.devices.sent import SentFile

# It finds the mark in the program that it is sent, says it, and then goes on as it likes.
PEER = """
import re, sys, time
size = int(re.search(r"read\\((\\d+)\\)", sys.argv[1]).group(1))
mark = re.search(rb"main\\('(evm-deploy [0-9a-f]+)'", sys.stdin.buffer.read(size)).group(1)
say = lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush())
say(b"hello\\n" + mark + b"\\n")
"""
DATA = b'{"any": "thing"}'
DONE = f'{{"done": {len(DATA)}, "sha256": "{hashlib.sha256(DATA).hexdigest()}"}}\n'.encode() + DATA
Start = Callable[..., Connection]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(connection, "FAREWELL", 5.0)

    def make(text: str, patience: float = 20.0, peer: str = PEER) -> Connection:
        (tmp_path / "peer.py").write_text(peer + text)
        return Connection([sys.executable, "-I", "-S", str(tmp_path / "peer.py")], "python3", "board", patience)

    return make


def said(data: bytes) -> str:
    return f"say({data!r})\n"


def test_an_answer_and_its_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    stages: list[str] = []
    talk = said(b'{"facts": {"system": "Linux"}}\n') + "order = sys.stdin.buffer.readline()\n"
    talk += "assert len(sys.stdin.buffer.read(300000)) == 300000\n" + said(b'{"say": "timing"}\n{"beat": 0}\n' + DONE)
    with start(talk) as there:
        assert there.ask_facts() == {"system": "Linux"}
        assert there.run([SentFile("file", tmp_path / "file")], [], "out", stages.append) == DATA
    assert stages == ["timing"]


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b"[1, 2]\n",
        b'{"facts": 3}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 200_000,
        b"\xff\xfe\n",
        b'{"error": "unheard of", "text": {}}\n',
    ],
)
def test_facts_that_are_none(start: Start, answer: bytes) -> None:
    with start(said(answer)) as there, pytest.raises(DeviceError, match="answers that are not valid"):
        there.ask_facts()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b'{"done": 4, "sha256": "0"}\nabcd', "answers that are not valid"),
        (b'{"done": 100000000000, "sha256": "0"}\nabcd', "answers that are not valid"),
        (b'{"done": -5, "sha256": "0"}\n', "answers that are not valid"),
        (b'{"done": "x"}\n', "answers that are not valid"),
        (b"", "connection to board is lost"),
        (b'{"say": "timing"}\n', "connection to board is lost"),
        (b'{"error": "agent", "text": "line one\\nline two"}\n', "measuring on board failed: line one line two."),
        (b'{"error": "disk", "text": "[Errno 28]"}\n', "disk of board is full"),
        (b'{"error": "system", "text": "no /tmp"}\n', "cannot store the files .no /tmp"),
    ],
)
def test_a_profile_that_is_none(start: Start, answer: bytes, cause: str) -> None:
    with start(said(answer)) as there, pytest.raises(DeviceError, match=cause):
        there.run([], [], "out", lambda stage: None)


def test_a_peer_that_never_begins(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FAREWELL", 0.2)
    noisy = "import sys\nwhile True:\n    sys.stdout.write('message of the day\\n')\n"
    with start("", patience=60, peer=noisy) as there, pytest.raises(DeviceError, match="connection to board is lost"):
        there.ask_facts()


def test_beats_say_that_the_line_lives_and_not_that_the_work_goes_on(start: Start) -> None:
    beating = "while True:\n    say(b'{\"beat\": 0}\\n')\n    time.sleep(0.05)\n    if time.monotonic() > end: break\n"
    with start(f"end = time.monotonic() + 3\n{beating}", patience=0.5) as there:
        with pytest.raises(DeviceError, match=r"no sign of life for 0.5 s"):
            there.ask_facts()


def test_files_that_are_on_their_way_are_a_sign_of_life(start: Start) -> None:
    sending = "for left in range(8, 0, -1):\n    say(b'{\"beat\": %d}\\n' % left)\n    time.sleep(0.5)\n"
    with start(sending + said(DONE), patience=3) as there:
        assert there.run([], [], "out", lambda stage: None) == DATA


@pytest.mark.parametrize(
    ("code", "text", "cause"),
    [
        (255, "ssh: Could not resolve hostname nano: Name or service not known\r\n", "there is no host board"),
        (255, "ssh: connect to host nano port 22: No route to host\r\n", "cannot be reached"),
        (255, "ssh: connect to host nano port 22: Connection timed out", "cannot be reached"),
        (255, "me@nano: Permission denied (publickey,password).\r\n", "does not let you in"),
        (255, "Received disconnect: 2: Too many authentication failures", "does not let you in"),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "host key of board",
        ),
        (127, "sh: 1: exec: python3: not found\n", "has no such Python"),
        (1, "python3: Command not found.\n", "has no such Python"),
        (1, "needs Python 3.8, this is 3.6.9\n", "too old (needs Python 3.8, this is 3.6.9)"),
        (255, "config: line 3: Bad configuration option: foo\n", "does not accept its configuration"),
        (255, "client_loop: send disconnect: Broken pipe\r\n", "is lost (client_loop: send disconnect: Broken pipe)"),
        (-9, "", "is lost (ssh ended with -9)"),
    ],
)
def test_what_ssh_says_at_its_end(code: int, text: str, cause: str) -> None:
    assert cause in refusals.explain_end(code, text, "board").cause


def test_the_program_needs_python_3_8_and_its_library_only() -> None:
    tree = ast.parse(connection._PROGRAM.read_bytes(), feature_version=(3, 8))
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)

"""Runs a command of evm-deploy again and again, each time with another fault: `python sweep.py CASE.json`.

The shim is loaded, and CASE names the faults. Everything is imported once; each run is a fork of this process. Prints a
JSON list of what each run left.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evm_deploy import reporting
from evm_deploy.bundle import Bundle
from evm_deploy.cli import entry
from evm_deploy.packaging.verify import is_package, verify

KINDS = ("write", "sync", "name", "memory", "removal")  # in the order of the shim
MODES = ("once", "from then on", "kill")
HEAD = struct.Struct("<10q")  # armed, kind, at, mode, errno; calls seen of each kind
LIBRARY = struct.Struct("<2Q")  # where the operator library begins and ends in memory
PAGE_BYTES = HEAD.size + LIBRARY.size + 4096


class Faults:
    """The page that the shim reads: files below `root` count."""

    def __init__(self, root: Path) -> None:
        with Path(os.environ["EVM_FAULTS"]).open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), PAGE_BYTES)
        self._page[HEAD.size + LIBRARY.size :] = os.fsencode(root).ljust(4096, b"\0")

    def watch(self, library: Path) -> None:
        """Counts what a library, which is loaded and stays so, asks of the memory."""
        lines = Path("/proc/self/maps").read_text().splitlines()
        places = [line.split()[0].split("-") for line in lines if line.endswith(library.name)]
        LIBRARY.pack_into(self._page, HEAD.size, int(places[0][0], 16), int(places[-1][1], 16))

    def arm(self, kind: str = "", at: int = -1, mode: str = "once", error: int = 0) -> None:
        """Counts calls from now on; the one of `kind` that is numbered `at` fails."""
        number = KINDS.index(kind) if kind else -1
        self._page[: HEAD.size] = HEAD.pack(1, number, at, MODES.index(mode), error, *[0] * len(KINDS))

    def disarm(self) -> dict[str, int]:
        """The number of calls of each kind since `arm`."""
        seen = HEAD.unpack_from(self._page)[5:]
        self._page[: HEAD.size] = bytes(HEAD.size)
        return dict(zip(KINDS, seen, strict=True))


@dataclass(frozen=True)
class Outcome:
    """What a run came to, and the run without a fault after it, where there was one."""

    fault: str  # "write 3 from then on"
    seen: dict[str, int]
    code: int  # the exit code; -9: killed
    errors: str  # what it said on stderr
    names: tuple[str, ...]  # in the folder of the results, right after the run
    temporary: tuple[str, ...]  # left in TMPDIR
    states: dict[str, str]  # of each result: "old", "new", or what is wrong with it
    after: Outcome | None = None


@dataclass(frozen=True)
class Case:
    """A command, in a folder that is made anew from `before` for each run."""

    arguments: list[str]
    root: str  # what counts: `out` and `tmp` in it
    before: str  # a copy of `out` before the command
    results: dict[str, str]  # what the command writes to `out`, by name, and its kind in CHECKS
    faults: list[tuple[str, str, int]]  # kind, mode, errno
    most: int  # runs of one fault; fewer than calls: the first, the last, and some between
    again: int  # after every n-th run, and each that was killed, the command is run once more

    def run(self, faults: Faults) -> Iterator[Outcome]:
        """Every run, the first without a fault."""
        yield (free := self._run_once(faults, "none", {}, again=True))
        for kind, mode, error in self.faults:
            for i, at in enumerate(spread(free.seen[kind], self.most)):
                armed = {"kind": kind, "at": at, "mode": mode, "error": error}
                yield self._run_once(faults, f"{kind} {at} {mode}", armed, again=mode == "kill" or i % self.again == 0)

    def _run_once(self, faults: Faults, name: str, armed: dict[str, Any], *, again: bool) -> Outcome:
        for folder in ("out", "tmp"):
            shutil.rmtree(Path(self.root, folder), ignore_errors=True)
        shutil.copytree(self.before, Path(self.root, "out"))
        Path(self.root, "tmp").mkdir()
        found = self._observe(faults, name, armed)
        return replace(found, after=self._observe(faults, name, {})) if again else found

    def _observe(self, faults: Faults, name: str, armed: dict[str, Any]) -> Outcome:
        out, temporary = Path(self.root, "out"), Path(self.root, "tmp")
        faults.arm(**armed)
        code, errors = fork(self.arguments, Path(self.root))
        seen, names = faults.disarm(), list_names(out)
        states = {part: self._judge(part, kind) for part, kind in self.results.items()}
        return Outcome(name, seen, code, errors, names, list_names(temporary), states)

    def _judge(self, name: str, kind: str) -> str:
        made, before = Path(self.root, "out", name), Path(self.before, name)
        try:
            CHECKS[kind](made)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "old" if before.exists() and hash_tree(made) == hash_tree(before) else "new"


def check_page(path: Path) -> None:
    """Raises ValueError unless the page is whole."""
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


# They raise where a result is not whole.
CHECKS: dict[str, Callable[[Path], object]] = {
    "bundle": lambda path: Bundle.open(path),
    "package": lambda path: is_package(path) and verify(path),
    "profile": lambda path: reporting.read([path]),
    "page": check_page,
}


def spread(count: int, most: int) -> Sequence[int]:
    """At most `most` of range(count), the first and the last among them."""
    return range(count) if count <= most else sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def list_names(folder: Path) -> tuple[str, ...]:
    """Of the entries of a folder, in order."""
    return tuple(sorted(path.name for path in folder.iterdir()))


def hash_tree(path: Path) -> str:
    """Of the names and bytes of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def fork(arguments: Sequence[str], root: Path) -> tuple[int, str]:
    """The exit code of the command, or less a signal, and what it said on stderr."""
    said = root / "stderr"  # not in the folders that count
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 99
        try:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = entry.main(list(arguments))
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, said.read_text(errors="replace")


def import_all() -> None:
    """What the commands import, and so that it is not traced once more in each run, the graph of an export."""
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    from evm_deploy.calib import quantize  # noqa: F401
    from evm_deploy.exporters import onnx as exporter

    exporter.export = remember(exporter.export)


def remember(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute`, called once by the run that counts, whose result all others take."""
    kept = Path(os.environ["EVM_FAULTS"] + ".kept")

    def run(*arguments: Any) -> Any:
        if not kept.exists():
            kept.write_bytes(pickle.dumps(compute(*arguments)))
        return pickle.loads(kept.read_bytes())

    return run


def main(path: str) -> None:
    """Prints what each run came to."""
    case = Case(**json.loads(Path(path).read_text()))
    if case.arguments[0] != "package":
        import_all()
    faults = Faults(Path(case.root, "out"))
    print(json.dumps([asdict(outcome) for outcome in case.run(faults)]))


if __name__ == "__main__":
    main(sys.argv[1])

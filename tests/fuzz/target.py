"""What the fuzz targets share. Each is a script: fuzz_manifest.py [SECONDS] searches with atheris for so long.

A target's `load` imports what it tries and returns a function of bytes, which raises an error only for a fault. Atheris
watches which lines of evm_deploy the bytes reach. `test_corpus.py` replays the corpus without it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
CORPUS = TESTS / "fuzz" / "corpus"
sys.path.insert(0, str(TESTS / "hostile"))

Run = Callable[[bytes], None]
SEED_ARCHIVE = TESTS / "compatibility" / "0.1.0.zip"


class BytesAsChance(random.Random):
    """Chooses as the bytes say, and always the first when they have ended."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        super().__init__()

    def seed(self, *_: Any) -> None:
        """Has no other state."""

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        taken = self._data[self._at : self._at + size].ljust(size, b"\0")
        self._at += size
        return int.from_bytes(taken, "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / (1 << 16)

    def choice(self, seq: Any) -> Any:
        return seq[self.getrandbits(16) % len(seq)]

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        low, high = (0, start) if stop is None else (start, stop)
        return low + self.getrandbits(16) % max(1, high - low)


def read_seed(name: str) -> bytes:
    """A file of what version 0.1.0 wrote."""
    with zipfile.ZipFile(SEED_ARCHIVE) as archive:
        return archive.read(name)


def change_document(text: bytes, data: bytes) -> bytes:
    """The document with values replaced or removed; `data` says which. An even first byte: the rest is the text."""
    from cases import VALUES, find_holder, list_places

    if not data or data[0] % 2 == 0:
        return data[1:]
    document, chance = json.loads(text), BytesAsChance(data[1:])
    for _ in range(8):
        places = list(list_places(document))
        if chance.ended or not places:
            break
        place, kind = chance.choice(places), chance.getrandbits(8)
        if kind == 255:
            del find_holder(document, place)[place[-1]]
        else:
            find_holder(document, place)[place[-1]] = copy.deepcopy(VALUES[kind % len(VALUES)])
    return json.dumps(document).encode()


def start(load: Callable[[], Run], name: str, *, watch: bool = True) -> None:
    """Searches for the seconds that the command line gives, from the corpus on; ends at the first fault.

    watch: lets the lines of evm_deploy that are reached guide the search, without the native library.
    """
    import atheris

    seconds = sys.argv[1] if len(sys.argv) > 1 else "600"
    if watch:  # atheris cannot look into what the finder of an editable installation loads
        sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
        sys.path.insert(0, str(TESTS.parent))
    with atheris.instrument_imports(include=["evm_deploy"]) if watch else contextlib.nullcontext():
        run = load()
    with tempfile.TemporaryDirectory(prefix="evm-fuzz-") as found:
        options = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=60", "-print_final_stats=1"]
        options += ["-max_len=8192", f"-artifact_prefix={Path.cwd()}/"]
        atheris.Setup([sys.argv[0], *options, found, str(CORPUS / name)], run)
        atheris.Fuzz()

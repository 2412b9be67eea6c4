"""A bundle: the folder that holds an exported model, its manifest, labels and a golden sample."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evm_deploy.errors import BundleError
from evm_deploy.files import find_file, is_lfs_pointer, is_utf8, read_file, read_text, sha256_file
from evm_deploy.folders import FolderKind, list_files, read_whole, restore_folder, write_folder
from evm_deploy.manifest import CheckpointRecord, Manifest, Preprocessing
from evm_deploy.tasks import IOSpec, find_task

__all__ = [
    "Bundle",
    "CheckpointRecord",
    "Draft",
    "IOSpec",
    "Manifest",
    "Preprocessing",
    "Sample",
    "write_bundle",
]

MANIFEST = "manifest.json"
MANIFEST_BYTES = 1 << 20
LABELS_BYTES = 1 << 22
MODEL_BYTES = 1 << 31  # what protobuf reads
SAMPLE_BYTES = 1 << 29
SHOWN = 4  # how many of the bundles in a folder an error names
_NAME_BUNDLE = "name the folder that `evm-deploy export` wrote."


@dataclass(frozen=True)
class Sample:
    """An input of the model and the outputs it must give, one per output of the manifest."""

    input: npt.NDArray[np.generic]
    outputs: tuple[npt.NDArray[np.generic], ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that has been read and checked. Make one with `Bundle.open`."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Reads the bundle at `path` and checks the hash of every file.

        Raises BundleError: no bundle there, a path that is not UTF-8, an unknown schema version, an invalid manifest,
        a path or link that leaves the folder, a missing or changed file.
        """
        root = Path(path)
        if not is_utf8(root.absolute()):
            raise BundleError(f"the path of {root} is not UTF-8: no runtime opens it.", "give the folder another name.")
        restore_folder(root, KIND)
        return read_whole(root, lambda: cls._open(root))

    @classmethod
    def _open(cls, root: Path) -> Bundle:
        manifest = Manifest.from_json(_read_manifest(root))
        for name, digest in manifest.files.items():
            path = find_file(root, name, _make_damage_error)
            if sha256_file(path) != digest:
                _check_pointer(path)
                raise BundleError(
                    f"{name} in {root} is not the file that was exported (its sha256 differs).", "export it again."
                )
        bundle = cls(root, manifest)
        bundle._check_names()
        bundle.labels()  # of the wrong length or encoding: no command goes on with them
        return bundle

    @property
    def model_path(self) -> Path:
        """The model's file, or its folder for targets whose model is one."""
        return self.path / self.manifest.model_file

    @property
    def size(self) -> int:
        """Bytes of the model, and of what follows it in a graph of its own."""
        model, steps = self.manifest.model_file, self.manifest.last_steps
        names = [name for name in self.manifest.files if name == model or name.startswith(model + "/")]
        names += [steps.file] if steps is not None else []
        return sum((self.path / name).stat().st_size for name in names)

    def read_model(self) -> bytes:
        """The bytes of a model that is one file. Raises BundleError: others than when the bundle was read."""
        return self._read_checked(self.manifest.model_file)

    def read_last_steps(self) -> bytes:
        """The bytes of the graph that follows the model. Raises BundleError: others than when the bundle was read."""
        assert self.manifest.last_steps is not None
        return self._read_checked(self.manifest.last_steps.file)

    def _read_checked(self, name: str) -> bytes:
        path = find_file(self.path, name, _make_damage_error)
        data = read_file(path, MODEL_BYTES, _make_damage_error)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name]:
            raise BundleError(f"{path} was replaced while it was read.", "run the command again.")
        return data

    def labels(self) -> tuple[str, ...] | None:
        """The class names in order, or None where the bundle has none. Raises BundleError: not one for each class."""
        if self.manifest.labels is None:
            return None
        path = find_file(self.path, self.manifest.labels, _make_damage_error)
        labels = tuple(read_text(path, LABELS_BYTES, _make_damage_error).splitlines())
        classes = find_task(self.manifest.task).classes(self.manifest.outputs)
        if classes is not None and len(labels) != classes:
            raise BundleError(f"{self.path} has {len(labels)} labels for {classes} classes.", "export it again.")
        return labels

    def sample(self) -> Sample:
        """The golden pair. Raises BundleError if it is not a plain array, or not what the manifest declares."""
        outputs, empty = self.manifest.outputs, find_task(self.manifest.task).empty_outputs
        names = _name_outputs(len(outputs))
        expected = (self._read_array(name, spec, empty=empty) for name, spec in zip(names, outputs, strict=True))
        return Sample(self._read_array("sample/input.npy", self.manifest.inputs[0]), tuple(expected))

    def _check_names(self) -> None:
        """Checks that the files named by the manifest, and those that every bundle has, are among the hashed files."""
        manifest = self.manifest
        needed = ["sample/input.npy", *_name_outputs(len(manifest.outputs))]
        needed += [manifest.labels] if manifest.labels is not None else []
        needed += [manifest.last_steps.file] if manifest.last_steps is not None else []
        model = (manifest.model_file, manifest.model_file + "/")
        if not any(name == model[0] or name.startswith(model[1]) for name in manifest.files):
            needed.append(manifest.model_file)
        for name in needed:
            if name not in manifest.files:
                raise BundleError(f"{self.path} does not list {name} among its files.", "export the model again.")

    def _read_array(self, name: str, spec: IOSpec, *, empty: bool = False) -> npt.NDArray[np.generic]:
        path = find_file(self.path, name, _make_damage_error, limit=SAMPLE_BYTES)
        try:  # memory-mapped: a header that claims more data than the file has allocates nothing
            array: npt.NDArray[np.generic] = np.array(np.lib.format.open_memmap(path, mode="r"))
        except (ValueError, OSError, SyntaxError, tokenize.TokenError) as error:  # the last two: of the header
            raise BundleError(f"{path} is not a plain NumPy array ({error}).", "export the model again.") from error
        if not spec.fits(array.shape, str(array.dtype), empty=empty):
            what = f"{array.dtype} {array.shape}"
            raise BundleError(f"{path} is {what}, but {spec.name} is {spec.dtype} {spec.shape}.", "export it again.")
        return array


@dataclass(frozen=True)
class Draft:
    """A bundle being written, in a temporary folder beside its destination."""

    path: Path

    def write_labels(self, labels: Sequence[str], name: str = "labels.txt") -> str:
        """Writes the class names, one a line, and returns the name for `Manifest.labels`."""
        self._write(name, "".join(label + "\n" for label in labels))
        return name

    def write_sample(self, sample: Sample) -> None:
        """Writes the golden pair under `sample/`."""
        (self.path / "sample").mkdir(exist_ok=True)
        names = ("sample/input.npy", *_name_outputs(len(sample.outputs)))
        for name, array in zip(names, (sample.input, *sample.outputs), strict=True):
            buffer = io.BytesIO()  # np.save to a file on a full disk raises an OSError that does not say so
            np.save(buffer, array, allow_pickle=False)
            (self.path / name).write_bytes(buffer.getvalue())

    def seal(self, manifest: Manifest) -> Bundle:
        """Hashes every file, writes the manifest, and returns the draft as the bundle a reader would open.

        May be called again, with another manifest or after files changed; the last call counts.
        """
        names = sorted(file.relative_to(self.path).as_posix() for file in list_files(self.path))
        files = {name: sha256_file(self.path / name) for name in names if name != MANIFEST}
        self._write(MANIFEST, dataclasses.replace(manifest, files=files).to_json())
        return Bundle.open(self.path)

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def write_bundle(out: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Draft]:
    """Yields a Draft; on leaving the block its folder becomes `out`, and on any failure nothing is left behind.

    The block must call `Draft.seal`. With `overwrite` a bundle at `out` is replaced, at the end. Raises OutputError:
    `out` exists (with `overwrite`: and is not a bundle alone), cannot be written, or the disk is full.
    """
    with write_folder(out, KIND, overwrite) as folder:
        yield Draft(folder)


def _name_outputs(count: int) -> tuple[str, ...]:
    if count == 1:
        return ("sample/output.npy",)
    return tuple(f"sample/output{index}.npy" for index in range(count))


def _read_manifest(root: Path) -> bytes:
    if not root.is_dir():
        raise _refuse_file(root)
    if not (root / MANIFEST).exists():
        within = sorted({found.parent for depth in ("*", "*/*") for found in root.glob(f"{depth}/{MANIFEST}")})
        fix = f"name one of the bundles in it: {', '.join(map(str, within[:SHOWN]))}." if within else _NAME_BUNDLE
        raise BundleError(f"{root} has no {MANIFEST}: it is not a bundle.", fix)
    path = find_file(root, MANIFEST, _make_damage_error)
    _check_pointer(path)
    return read_file(path, MANIFEST_BYTES, _make_damage_error)


def _check_pointer(path: Path) -> None:
    """Raises BundleError: git LFS left a pointer in the place of the file."""
    if is_lfs_pointer(path):
        raise BundleError(f"{path} is a pointer of git LFS, not the file itself.", "run `git lfs pull`.")


def _refuse_file(path: Path) -> BundleError:
    """The error for what is no folder."""
    if not path.exists():
        return BundleError(f"{path} does not exist.", _NAME_BUNDLE)
    if (path.parent / MANIFEST).is_file():
        return BundleError(f"{path} is not a folder, but a file of a bundle.", f"name its folder: {path.parent}.")
    return BundleError(f"{path} is not a folder, as bundles are.", f"{_NAME_BUNDLE[:-1]}; of a checkpoint, export one.")


def _make_damage_error(cause: str) -> BundleError:
    return BundleError(cause, "copy the whole folder, or export the model again.")


def _list_files(root: Path) -> set[str]:
    """The names of all files of the bundle at `root`. Raises BundleError: its manifest is not valid."""
    return Manifest.from_json(_read_manifest(root)).files.keys() | {MANIFEST}


KIND = FolderKind("bundle", MANIFEST, _list_files)

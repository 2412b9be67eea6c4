"""From a checkpoint file to a network: the weights are found, renamed, checked and read for their configuration."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.bundle import MANIFEST
from evm_deploy.errors import CheckpointError, OptionError, check_choice
from evm_deploy.files import sha256_file
from evm_deploy.models import tensor_files
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.family import Family, UnsupportedNetwork
from evm_deploy.models.heads import HEADS
from evm_deploy.models.recorded.classes import read_classes
from evm_deploy.models.recorded.read import RecordedPreprocessing, read_recorded
from evm_deploy.models.refusals import Mismatch, list_some, refuse_content, refuse_form, refuse_tensors
from evm_deploy.models.state_dicts import StateDict, describe_state_dict, find_state_dicts, list_keys

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")  # usual names; content alone counts


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file said. `state_dict` has the released names, float32.

    ignored: the names of what stands beside it; not_loaded: the classes and functions that the file refers to;
    recorded: what it states of its images; class_names: of its classes, in their order; remark: why they are not
    taken, where the file names some.
    """

    family: Family
    state_dict: dict[str, Tensor]
    config: Any  # the family's: a dataclass
    source_key: str | None  # where in the file the weights were, as `key` names it; None: the file is the state dict
    source: str  # the same for people, with what the file records of them
    sha256: str
    ignored: tuple[str, ...]
    not_loaded: tuple[str, ...]
    recorded: RecordedPreprocessing
    class_names: tuple[str, ...] | None = None
    remark: str | None = None

    def describe_ignored(self) -> str | None:
        """What of the file is not used, in a line for people; None: nothing is left over."""
        count = f"{len(self.ignored)} {'entry' if len(self.ignored) == 1 else 'entries'}"
        names = f"{count} ({list_some(self.ignored)})" if self.ignored else ""
        objects = f"objects of {list_some(self.not_loaded)}" if self.not_loaded else ""
        return f"ignored in the checkpoint: {'; '.join(filter(None, (names, objects)))}" if names or objects else None

    def build(self) -> nn.Module:
        """The network with these weights, in eval mode."""
        with torch.device("meta"):
            model = self.family.network(self.config)
        weights = {name: tensor.clone() for name, tensor in self.state_dict.items()}
        model.load_state_dict(weights, assign=True)
        return model.eval()


def load(
    path: str | os.PathLike[str], *, key: str | None = None, scan: str | None = None, fold: bool = False
) -> nn.Module:
    """The network in the checkpoint at `path`, float32, on the CPU, in eval mode: of any of the families.

    Reads what torch.save (either format) and safetensors write; nothing in the file is ever run. The configuration
    comes from the shapes of the tensors. A file of a detector or a segmenter gives the whole network, whose forward
    returns what its head gives; with the key of its backbone, or where its head is of no known kind, the backbone,
    whose forward returns the feature maps. A changed bit is found in the zip files of torch.save, which carry
    checksums; in safetensors and in torch.save's older format only if it makes a value infinite or the file unreadable.

    Args:
        path: the file; its format is told by its content, not by its name.
        key: the container to take the weights from, such as "model_ema", or the prefix of their names. Needed where the
            file holds more than one network, with different weights.
        scan: "ss2d" for a network trained with the full cross-scan, which has the same tensors as with "es2d".
        fold: return the network folded, for inference.

    Raises:
        CheckpointError: the file cannot be read, does not hold a network of a known family, or holds several.
        OptionError: there is no such scan.
    """
    checkpoint = read_checkpoint(path, key=key, scan=scan)
    return checkpoint.family.fold(checkpoint.build()) if fold else checkpoint.build()


def read_checkpoint(path: str | os.PathLike[str], *, key: str | None = None, scan: str | None = None) -> Checkpoint:
    """As `load`, but returns the weights and where they come from instead of the network."""
    return open_file(path).read(key=key, scan=scan)


def open_file(path: str | os.PathLike[str]) -> "CheckpointFile":
    """Reads the checkpoint at `path`. Raises CheckpointError: it cannot be read."""
    path = Path(path)
    return CheckpointFile(path, _hash_file(path), tensor_files.read(path))


@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """A file that was read: the networks in it are not chosen between yet."""

    path: Path
    sha256: str
    content: tensor_files.FileContent

    def list_networks(self) -> dict[str | None, str]:
        """The networks by their keys, with what the file records of each; with the same weights, once.

        Raises CheckpointError: there is none.
        """
        found = _find_networks(self.path, self.content.held, key=None, scan=None)
        return {held.key: describe_state_dict(self.content.held, held) for held, *_ in found}

    def read(self, *, key: str | None = None, scan: str | None = None) -> Checkpoint:
        """The network of the key. Raises what `load` does."""
        if scan is not None:
            check_choice("scan", scan, tuple(dict.fromkeys(name for family in FAMILIES for name in family.scans)))
        path, content = self.path, self.content.held
        found = _find_networks(path, content, key, scan)
        if len(found) > 1:
            raise refuse_to_choose(path, content, [held for held, *_ in found])
        ((held, family, tensors, config),) = found
        if family.explain_form is not None and (said := family.explain_form(content, config)) is not None:
            raise refuse_form(path, family, said)
        if family.apply_settings is not None:
            try:
                config = family.apply_settings(config, content)
            except UnsupportedNetwork as error:
                raise refuse_form(path, family, str(error)) from error
        state_dict = check_tensors(path, tensors, _describe_tensors(family, config))
        source, not_loaded = describe_state_dict(content, held), self.content.not_loaded
        others, recorded = (*held.others, *_list_unused(family, held)), read_recorded(content)
        names, remark = read_classes(content, config.num_classes) if config.num_classes else (None, None)
        read = (held.key, source, self.sha256, others, not_loaded, recorded, names, remark)
        return Checkpoint(family, state_dict, config, *read)


_Found = tuple[StateDict, Family, dict[str, Tensor], Any]  # where it was; its tensors by released names; configuration


def _find_networks(path: Path, content: Any, key: str | None, scan: str | None) -> list[_Found]:
    """Every network in the file, or all with the key; each that has the same weights as one before is left out.

    Raises CheckpointError: there is none; OptionError: nothing has the key.
    """
    candidates = find_state_dicts(content, [family.stem for family in FAMILIES], [head.stem for head in HEADS])
    if key is not None:
        candidates = [each for each in candidates if key in (each.key, each.container)]
        if not candidates:
            raise refuse_key(path, content, key)
    parts = [each for each in candidates if each.part]
    candidates = [each for each in candidates if not each.part or each.key == key]
    if not candidates:
        raise refuse_content(path, content)
    found: list[_Found] = []
    mismatches: list[list[Mismatch]] = []
    for each in candidates:
        if sum(t.numel() * t.element_size() for t in each.tensors.values()) > path.stat().st_size:
            raise CheckpointError(f"{path} declares more weights than it holds.", tensor_files.DOWNLOAD)
        mismatches.append([])
        for family in [head for head in HEADS if any(map(head.stem.match, each.tensors))] or FAMILIES:
            unused = _list_unused(family, each)
            tensors = family.rename({name: tensor for name, tensor in each.tensors.items() if name not in unused})
            config = _recognise(family, tensors, scan)
            if not isinstance(config, Mismatch):
                if not any(each.equals(other) for other, *_ in found):
                    found.append((each, family, tensors, config))
                break
            mismatches[-1].append(config)
    if not found:
        alone = next((each.key for each in parts if any(_fits(family, each) for family in FAMILIES)), None)
        raise refuse_tensors(path, content, mismatches[0], alone)
    return found


def _fits(family: Family, held: StateDict) -> bool:
    """Whether the tensors are those of a network of the family."""
    return not isinstance(_recognise(family, family.rename(held.tensors), None), Mismatch)


def _list_unused(family: Family, held: StateDict) -> list[str]:
    """The names of tensors that its networks have in training alone."""
    return [name for name in held.tensors if family.unused is not None and family.unused.match(name)]


def _recognise(family: Family, tensors: dict[str, Tensor], scan: str | None) -> Any:
    """The configuration of the network of `family` that has exactly these tensors, or the `Mismatch`.

    Raises OptionError: it has no such scan.
    """
    try:
        config = family.infer_config(tensors, scan if scan in family.scans else None)
    except UnsupportedNetwork as error:
        return Mismatch(family, (), (), said=str(error), near=True)
    if isinstance(config, list):
        return Mismatch(family, config, list(tensors))
    expected = _describe_tensors(family, config)
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # no part in inference
    missing = [name for name in expected if name not in tensors and name not in counters]
    unexpected = [name for name in tensors if name not in expected]
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(t.shape)}"
        for name, t in expected.items()
        if name in tensors and tensors[name].shape != t.shape
    ]
    if missing or unexpected or wrong:
        said = family.explain(tensors)
        return Mismatch(family, missing, unexpected, wrong, said, near=len(missing) + len(wrong) < len(expected) // 2)
    if scan is not None and scan not in family.scans:
        raise OptionError(f"{family.title} has no scan {scan!r}.", "leave the scan out.")
    return config


def _describe_tensors(family: Family, config: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(family.network(config).state_dict())


def _check_file(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    if path.is_dir():
        raise _refuse_folder(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file.", "Pass the checkpoint file itself.")


def _refuse_folder(path: Path) -> CheckpointError:
    if (path / MANIFEST).is_file():
        return CheckpointError(f"{path} is not a file, but a bundle.", "Pass the checkpoint that it was made from.")
    found = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
    fix = f"Name one of its files: {list_some(found)}." if found else "Pass the checkpoint file itself."
    return CheckpointError(f"{path} is not a file, but a folder.", fix)


def _hash_file(path: Path) -> str:
    _check_file(path)
    try:
        return sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error


def refuse_to_choose(path: Path, content: Any, found: Sequence[StateDict]) -> CheckpointError:
    """For networks whose weights differ."""
    listed = "; ".join(describe_state_dict(content, held) for held in found)
    keys = " or ".join(f"--key {held.key}" for held in found)
    return CheckpointError(f"{path} holds {len(found)} networks with different weights: {listed}.", f"Choose: {keys}.")


def refuse_key(path: Path, content: Any, key: str) -> OptionError:
    """For a key that nothing in the file has."""
    keys = list_keys(content)
    fix = f"Use one of: {', '.join(keys)}." if keys else "Leave the key out: the file is one state dict."
    return OptionError(f"{path} has no weights under {key!r}.", fix)


def check_tensors(path: Path, tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` as float32, if their values can be those of `expected`, whose names and shapes they have."""
    checked = {}
    for name, like in expected.items():
        tensor = tensors[name] if name in tensors else torch.zeros(like.shape, dtype=like.dtype)
        if tensor.is_floating_point() != like.is_floating_point() or tensor.layout != torch.strided:
            kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
            raise CheckpointError(f"{path}: {name} is a tensor of {kind}.", "Save the weights as dense floats.")
        checked[name] = tensor.detach().to(like.dtype).contiguous()
        if not checked[name].isfinite().all():
            raise CheckpointError(
                f"{path}: {name} has values that are not finite.", "Use a checkpoint from before the divergence."
            )
    return checked

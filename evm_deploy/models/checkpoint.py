"""From a checkpoint file to a network: the weights are found, renamed, checked and read for their configuration."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.errors import CheckpointError, OptionError, check_choice
from evm_deploy.files import sha256_file
from evm_deploy.models import tensor_files
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.family import Family
from evm_deploy.models.state_dicts import CONTAINERS, StateDict, describe_state_dict, find_state_dicts, list_keys

SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file said. `state_dict` has the released names, float32; `ignored` what the file holds besides."""

    family: Family
    state_dict: dict[str, Tensor]
    config: Any  # the family's: a dataclass
    source_key: str | None  # where in the file the weights were, as `key` names it; None: the file is the state dict
    source: str  # the same for people, with what the file records of them
    sha256: str
    ignored: tuple[str, ...]

    def build(self) -> nn.Module:
        """The network with these weights, in eval mode."""
        with torch.device("meta"):
            model = self.family.network(self.config)
        weights = {name: tensor.clone() for name, tensor in self.state_dict.items()}
        model.load_state_dict(weights, assign=True)
        return model.eval()


@dataclasses.dataclass(frozen=True)
class _Mismatch:
    """Why tensors are not those of a network of the family."""

    family: Family
    missing: list[str]
    unexpected: list[str]
    wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.wrong)


def load(
    path: str | os.PathLike[str], *, key: str | None = None, scan: str | None = None, fold: bool = False
) -> nn.Module:
    """The network in the checkpoint at `path`, float32, on the CPU, in eval mode: an `EfficientVMamba`.

    Reads what torch.save (either format) and safetensors write; nothing in the file is ever run. The configuration
    comes from the shapes of the tensors. A file of a detector or a segmenter gives its backbone, whose forward returns
    the feature maps. A changed bit is found in the zip files of torch.save, which carry checksums; in safetensors and
    in torch.save's older format only if it makes a value infinite or the file unreadable.

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
    path = Path(path)
    sha256, content = _hash_file(path), tensor_files.read(path)
    if scan is not None:
        check_choice("scan", scan, tuple(dict.fromkeys(name for family in FAMILIES for name in family.scans)))
    found = _find_networks(path, content, key, scan)
    if len(found) > 1:
        raise _refuse_to_choose(path, content, found)
    ((held, family, tensors, config),) = found
    state_dict = _check_tensors(path, tensors, _describe_tensors(family, config))
    source = describe_state_dict(content, held)
    return Checkpoint(family, state_dict, config, held.key, source, sha256, held.others)


def list_networks(path: str | os.PathLike[str]) -> dict[str | None, str]:
    """The networks in the checkpoint at `path`, by their keys, with what the file records of each.

    Networks with the same weights are there once. Raises CheckpointError: the file cannot be read, or holds none.
    """
    path = Path(path)
    _check_file(path)
    content = tensor_files.read(path)
    return {
        held.key: describe_state_dict(content, held) for held, *_ in _find_networks(path, content, key=None, scan=None)
    }


_Found = tuple[StateDict, Family, dict[str, Tensor], Any]  # where it was; its tensors by released names; configuration


def _find_networks(path: Path, content: Any, key: str | None, scan: str | None) -> list[_Found]:
    """Every network in the file, or all with the key; each that has the same weights as one before is left out.

    Raises CheckpointError: there is none; OptionError: nothing has the key.
    """
    candidates = find_state_dicts(content, [family.stem for family in FAMILIES])
    if key is not None:
        candidates = [each for each in candidates if key in (each.key, each.container)]
        if not candidates:
            raise _refuse_key(path, content, key)
    if not candidates:
        raise _refuse_content(path, content)
    found: list[_Found] = []
    mismatches: list[list[_Mismatch]] = []
    for each in candidates:
        if sum(t.numel() * t.element_size() for t in each.tensors.values()) > path.stat().st_size:
            raise CheckpointError(f"{path} declares more weights than it holds.", tensor_files.DOWNLOAD)
        mismatches.append([])
        for family in FAMILIES:
            tensors = family.rename(each.tensors)
            config = _recognise(family, tensors, scan)
            if not isinstance(config, _Mismatch):
                if not any(each.equals(other) for other, *_ in found):
                    found.append((each, family, tensors, config))
                break
            mismatches[-1].append(config)
    if not found:
        raise _refuse_tensors(path, mismatches[0])
    return found


def _recognise(family: Family, tensors: dict[str, Tensor], scan: str | None) -> Any:
    """The configuration of the network of `family` that has exactly these tensors, or the `_Mismatch`.

    Raises OptionError: it has no such scan.
    """
    usual = family.scans[0] if family.scans else None
    config = family.infer_config(tensors, scan if scan in family.scans else usual)
    if isinstance(config, list):
        return _Mismatch(family, config, list(tensors))
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
        return _Mismatch(family, missing, unexpected, wrong)
    if scan is not None and scan not in family.scans:
        raise OptionError(f"{family.title} has no scan {scan!r}.", "leave the scan out.")
    return config


def _describe_tensors(family: Family, config: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(family.network(config).state_dict())


def _check_file(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file.", "Pass the checkpoint file itself.")


def _hash_file(path: Path) -> str:
    _check_file(path)
    try:
        return sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error


def _refuse_to_choose(path: Path, content: Any, found: list[_Found]) -> CheckpointError:
    listed = "; ".join(describe_state_dict(content, held) for held, *_ in found)
    keys = " or ".join(f"--key {held.key}" for held, *_ in found)
    return CheckpointError(f"{path} holds {len(found)} networks with different weights: {listed}.", f"Choose: {keys}.")


def _refuse_key(path: Path, content: Any, key: str) -> OptionError:
    keys = list_keys(content)
    fix = f"Use one of: {', '.join(keys)}." if keys else "Leave the key out: the file is one state dict."
    return OptionError(f"{path} has no weights under {key!r}.", fix)


def _refuse_content(path: Path, content: Any) -> CheckpointError:
    held = list(content)[:8] if isinstance(content, Mapping) else []
    found = f"a {type(content).__name__} of {', '.join(map(str, held))}" if held else "no dictionary"
    return CheckpointError(
        f"{path} holds no state dict, but {found}.",
        f"Give the state dict itself, or under one of: {', '.join(CONTAINERS)}.",
    )


def _check_tensors(path: Path, tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _refuse_tensors(path: Path, mismatches: list[_Mismatch]) -> CheckpointError:
    """Names every family, and says what the tensors lack to be a network of the one that comes nearest."""
    nearest = min(mismatches, key=lambda mismatch: mismatch.size)
    groups = (
        ("missing", nearest.missing),
        ("unexpected", nearest.unexpected),
        ("of the wrong shape", nearest.wrong),
    )
    said = []
    for what, names in groups:
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            said.append(f"{len(names)} {what} ({'; '.join(names[:SHOWN])}{more})")
    titles = [mismatch.family.title for mismatch in mismatches]
    listed = " or ".join(f"{'an' if title[0] in 'AEIO' else 'a'} {title}" for title in titles)
    compared = f" (compared with {nearest.family.title}, the nearest)" if len(titles) > 1 else ""
    return CheckpointError(
        f"{path} does not hold {listed}: of its keys{compared}, {', '.join(said)}.",
        f"Pass a checkpoint of {' or '.join(titles)}, or export the network as a module: --module file.py:build.",
    )

"""From a checkpoint file to a network: the weights are found, renamed, checked and read for their configuration."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evm_deploy.errors import CheckpointError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.models import tensor_files
from evm_deploy.models.efficientvmamba.config import ModelConfig
from evm_deploy.models.efficientvmamba.fold import fold as fold_model
from evm_deploy.models.efficientvmamba.names import canonical, infer_config
from evm_deploy.models.efficientvmamba.network import EfficientVMamba

# Where training scripts put the weights, in the order in which they are looked for; averages come last.
CONTAINERS = ("state_dict", "model", "model_ema", "ema_model", "state_dict_ema")
SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file said. `state_dict` has the released names, float32; `ignored` what the file holds besides."""

    state_dict: dict[str, Tensor]
    config: ModelConfig
    source_key: str | None  # the container that held the weights; None: the file is the state dict
    sha256: str
    ignored: tuple[str, ...]

    def build(self) -> EfficientVMamba:
        """The network with these weights, in eval mode."""
        with torch.device("meta"):
            model = EfficientVMamba(self.config)
        weights = {name: tensor.clone() for name, tensor in self.state_dict.items()}
        model.load_state_dict(weights, assign=True)
        return model.eval()


def load(
    path: str | os.PathLike[str], *, key: str | None = None, scan: str = "es2d", fold: bool = False
) -> EfficientVMamba:
    """The network in the checkpoint at `path`, float32, on the CPU, in eval mode.

    Reads what torch.save (either format) and safetensors write; nothing in the file is ever run. The configuration
    comes from the shapes of the tensors. A file of a detector or a segmenter gives its backbone, whose forward returns
    the feature maps. A changed bit is found in the zip files of torch.save, which carry checksums; in safetensors and
    in torch.save's older format only if it makes a value infinite or the file unreadable.

    Args:
        path: the file; its format is told by its content, not by its name.
        key: the container to take the weights from, such as "model_ema". By default the first of state_dict, model,
            model_ema, ema_model and state_dict_ema that is there and not None.
        scan: "ss2d" for a network trained with the full cross-scan, which has the same tensors.
        fold: return the network folded, as `fold` does.

    Raises:
        CheckpointError: the file cannot be read, or does not hold an EfficientVMamba.
        OptionError: there is no such scan.
    """
    model = read_checkpoint(path, key=key, scan=scan).build()
    return fold_model(model) if fold else model


def read_checkpoint(path: str | os.PathLike[str], *, key: str | None = None, scan: str = "es2d") -> Checkpoint:
    """As `load`, but returns the weights and where they come from instead of the network."""
    path = Path(path)
    sha256 = _sha256(path)
    source_key, found = _container(path, tensor_files.read(path), key)
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if sum(t.numel() * t.element_size() for t in tensors.values()) > path.stat().st_size:
        raise CheckpointError(f"{path} declares more weights than it holds.", tensor_files.DOWNLOAD)
    tensors, ignored = canonical(tensors)
    config = infer_config(tensors, scan)
    if isinstance(config, list):
        raise _mismatch(path, config, list(tensors), [])
    state_dict = _checked(path, tensors, config)
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    return Checkpoint(state_dict, config, source_key, sha256, (*ignored, *others))


def _sha256(path: Path) -> str:
    if not path.exists():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file.", "Pass the checkpoint file itself.")
    try:
        return sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error


def _container(path: Path, content: Any, key: str | None) -> tuple[str | None, Mapping[Any, Any]]:
    """The state dict in `content`, and the name it has there."""
    held = content if isinstance(content, Mapping) else {}
    holders = [str(name) for name, value in held.items() if _is_state_dict(value)]
    if key is not None:
        if key not in holders:
            raise OptionError(
                f"{path} has no weights under {key!r}.",
                f"Use one of: {', '.join(holders)}." if holders else "Leave the key out: the file is one state dict.",
            )
        return key, held[key]
    for name in CONTAINERS:
        if name in holders:
            return name, held[name]
    if _is_state_dict(held):
        return None, held
    found = f"a {type(content).__name__} of {', '.join(map(str, list(held)[:8]))}" if held else "no dictionary"
    raise CheckpointError(
        f"{path} holds no state dict, but {found}.",
        f"Give the state dict itself, or under one of: {', '.join(CONTAINERS)}.",
    )


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def _checked(path: Path, tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """`tensors` as float32, if they are exactly those of a network of `config`."""
    with torch.device("meta"):
        expected = EfficientVMamba(config).state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # no part in inference
    missing = [name for name in expected if name not in tensors and name not in counters]
    unexpected = [name for name in tensors if name not in expected]
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(t.shape)}"
        for name, t in expected.items()
        if name in tensors and tensors[name].shape != t.shape
    ]
    if missing or unexpected or wrong:
        raise _mismatch(path, missing, unexpected, wrong)
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


def _mismatch(path: Path, missing: list[str], unexpected: list[str], wrong: list[str]) -> CheckpointError:
    groups = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong))
    said = []
    for what, names in groups:
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            said.append(f"{len(names)} {what} ({'; '.join(names[:SHOWN])}{more})")
    return CheckpointError(
        f"{path} does not hold an EfficientVMamba: of its keys, {', '.join(said)}.",
        "Pass a checkpoint of EfficientVMamba, or export the network in the framework that it comes from.",
    )

"""A checkpoint's weights for somebody's module: found in containers and under prefixes, and all of them its own."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from evm_deploy.errors import CheckpointError
from evm_deploy.models.checkpoint import check_tensors, open_file, refuse_key, refuse_to_choose
from evm_deploy.models.refusals import count_misfits
from evm_deploy.models.state_dicts import StateDict, find_state_dicts


def load_weights(module: nn.Module, checkpoint: str | os.PathLike[str], key: str | None = None) -> None:
    """Puts the weights in the file at `checkpoint` into `module`. Nothing in the file is ever run.

    key: as for `load`. Raises CheckpointError: it cannot be read, has other tensors than the module, or holds several
    networks of them with different weights; OptionError: nothing has the key.
    """
    path, content = Path(checkpoint), open_file(checkpoint).content.held
    expected = {name: t for name, t in module.state_dict().items() if isinstance(t, Tensor)}
    longest = max(expected, key=lambda name: (name.count("."), len(name)), default="")
    found = find_state_dicts(content, [re.compile(rf"((?:.*\.)?){re.escape(longest)}$")])
    if key is not None:
        found = [each for each in found if key in (each.key, each.container)]
        if not found:
            raise refuse_key(path, content, key)
    fitting = [each for each in found if not _describe_difference(each, expected)]
    if not fitting:
        said = _describe_difference(found[0], expected) if found else "it holds no tensors"
        what = f"the weights in {path} are not those of {type(module).__name__}: {said}."
        raise CheckpointError(what, "let the function build the network that was trained.")
    different = [each for i, each in enumerate(fitting) if not any(each.equals(other) for other in fitting[:i])]
    if len(different) > 1:
        raise refuse_to_choose(path, content, different)
    counters = {name for name in expected if name not in different[0].tensors}
    tensors = check_tensors(path, different[0].tensors, {n: t for n, t in expected.items() if n not in counters})
    module.load_state_dict({**expected, **tensors})


def _describe_difference(found: StateDict, expected: Mapping[str, Tensor]) -> str:
    """How the tensors differ from the module's; "" where by counters alone, which have no part in inference."""
    missing = [name for name in expected if name not in found.tensors and not name.endswith("num_batches_tracked")]
    wrong = [
        f"{name} is {tuple(t.shape)}, expected {tuple(expected[name].shape)}"
        for name, t in found.tensors.items()
        if name in expected and t.shape != expected[name].shape
    ]
    return count_misfits(missing, [name for name in found.tensors if name not in expected], wrong)

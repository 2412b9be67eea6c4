"""Why what a checkpoint holds is not a network of a known family, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.errors import CheckpointError
from evm_deploy.models.family import Family
from evm_deploy.models.pickles import StandIn
from evm_deploy.models.state_dicts import CONTAINERS

SHOWN = 3
AS_MODULE = "export the network as a module: --module file.py:build."


@dataclass(frozen=True)
class Mismatch:
    """Why tensors are not those of a network of the family.

    said: what the family says of them; near: most of them are there and fit.
    """

    family: Family
    missing: Sequence[str]
    unexpected: Sequence[str]
    wrong: Sequence[str] = ()
    said: str | None = None
    near: bool = False

    @property
    def size(self) -> int:
        """The number of tensors that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.wrong)

    def count_tensors(self) -> str:
        """How many do not fit in which way, with the names of the first."""
        return count_misfits(self.missing, self.unexpected, self.wrong)


def count_misfits(missing: Sequence[str], unexpected: Sequence[str], wrong: Sequence[str]) -> str:
    """How many tensors do not fit in which way, with the names of the first; "" where there is none."""
    groups = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong))
    return ", ".join(f"{len(names)} {what} ({list_some(names, '; ')})" for what, names in groups if names)


def list_some(names: Sequence[str], separator: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return separator.join(names[:SHOWN]) + more


def refuse_content(path: Path, content: Any) -> CheckpointError:
    """The error for a file without a state dict."""
    if found := _find_module(content):
        return _refuse_module(path, found)
    held = list(content)[:8] if isinstance(content, Mapping) else []
    what = f"a {type(content).__name__} of {', '.join(map(str, held))}" if held else "no dictionary"
    return CheckpointError(
        f"{path} holds no state dict, but {what}.",
        f"Give the state dict itself, or under one of: {', '.join(CONTAINERS)}.",
    )


def refuse_tensors(
    path: Path, content: Any, mismatches: Sequence[Mismatch], backbone: str | None = None
) -> CheckpointError:
    """The error for tensors of no family: says what they lack to be a network of the one that comes nearest.

    backbone: the key of a part of them that could be taken alone.
    """
    nearest = min(mismatches, key=lambda mismatch: mismatch.size)
    titles = [_add_article(mismatch.family.title) for mismatch in mismatches]
    if nearest.near:
        what = nearest.said or nearest.count_tensors()
        alone = f"Take its backbone alone: --key {backbone}; or {AS_MODULE}" if backbone else AS_MODULE.capitalize()
        return CheckpointError(f"{path} holds {_add_article(nearest.family.title)}, but {what}.", alone)
    if found := _find_module(content):
        return _refuse_module(path, found)
    compared = f" (compared with {nearest.family.title}, the nearest)" if len(titles) > 1 else ""
    return CheckpointError(
        f"{path} does not hold {' or '.join(titles)}: of its keys{compared}, {nearest.count_tensors()}.",
        f"Pass a checkpoint of {' or '.join(mismatch.family.title for mismatch in mismatches)}, or {AS_MODULE}",
    )


def refuse_form(path: Path, family: Family, said: str) -> CheckpointError:
    """The error for a network whose tensors fit, and whose mathematics is another."""
    return CheckpointError(f"{path} holds {_add_article(family.title)}, but {said}.", AS_MODULE.capitalize())


def _refuse_module(path: Path, found: tuple[Any, StandIn]) -> CheckpointError:
    entry, module = found
    loaded = "torch.load(path, weights_only=False)" + (f"[{entry!r}]" if entry is not None else "")
    return CheckpointError(
        f"{path} holds a whole pickled module ({module.path}), whose code is not loaded.",
        f"Save its weights where you trust the file: torch.save({loaded}.state_dict(), new_path).",
    )


def _find_module(content: Any) -> tuple[Any, StandIn] | None:
    """A torch.nn.Module that is the content of a file (None), or an entry of it, by its name."""
    entries = content.items() if isinstance(content, Mapping) else ()
    held = [(None, content), *entries]
    return next(((name, each) for name, each in held if isinstance(each, StandIn) and each.is_module), None)


def _add_article(title: str) -> str:
    return f"{'an' if title[0] in 'AEIO' else 'a'} {title}"

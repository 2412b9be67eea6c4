"""Where the weights lie in what a checkpoint file holds: in containers, under prefixes, and which are the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Where training scripts put the weights, in the order in which they are looked for; averages come last.
CONTAINERS = ("state_dict", "model", "model_ema", "ema_model", "state_dict_ema")
# mmengine swaps them when it saves: the averaged weights are in the first, the others in the second.
MMENGINE = ("state_dict", "ema_state_dict")
# What wraps modules in training, as a part of the names of their tensors.
WRAPPERS = frozenset(
    "module _module _orig_mod _checkpoint_wrapped_module _fsdp_wrapped_module _fpw_module _forward_module".split()
)
LEFTOVERS = frozenset("total_ops total_params n_averaged _extra_state".split())  # of tools that count or average
BACKBONE = "backbone"  # the part of detectors and segmenters that comes first
Stems = Sequence[re.Pattern[str]]
_RECORDED = re.compile(r"epoch|iter|step|acc|top1|best|metric", re.IGNORECASE)
_AVERAGED = re.compile(r"ema|averag|swa", re.IGNORECASE)


@dataclass(frozen=True)
class StateDict:
    """Tensors that may be those of a network, named without their prefix.

    key: what tells them from others in the file, as the option `key` names it; None: the file holds nothing else.
    others: the names of what stands beside them.
    part: they are the backbone of another in the file, and taken only by their key.
    """

    key: str | None
    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    container: str | None  # None: the file itself
    part: bool = False

    def equals(self, other: StateDict) -> bool:
        """Whether both have the same names and values."""
        return self.tensors.keys() == other.tensors.keys() and all(
            _are_equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items()
        )


def find_state_dicts(content: Any, stems: Stems, heads: Stems = ()) -> list[StateDict]:
    """Every state dict in what a file holds, those in the usual containers first.

    stems: match the name of a tensor that every network of a family has, with what precedes it as the first group.
    heads: the same of networks that have a backbone of another family, which is a state dict of its own.
    """
    held = content if isinstance(content, Mapping) else {}
    containers = list_keys(held)
    usual = [name for name in CONTAINERS if name in containers]
    found = [each for name in usual for each in _split_by_prefix(held[name], name, stems, heads)]
    if _is_state_dict(held):
        found += _split_by_prefix(held, None, stems, heads)
    return found + [
        each for name in containers if name not in usual for each in _split_by_prefix(held[name], name, stems, heads)
    ]


def list_keys(content: Any) -> list[str]:
    """The names of the containers in what a file holds, in its order."""
    held = content if isinstance(content, Mapping) else {}
    return [str(name) for name, value in held.items() if _is_state_dict(value)]


def describe_state_dict(content: Mapping[Any, Any], found: StateDict) -> str:
    """What the file records of these weights, for people: "model_ema (max_accuracy_ema 82.6)"."""
    name = found.key or "the file's own tensors"
    averaged = bool(_AVERAGED.search(name))
    facts = [f"{key} {value:.6g}" for key, value in _list_records(content) if bool(_AVERAGED.search(key)) == averaged]
    if found.container in MMENGINE and all(isinstance(content.get(each), Mapping) for each in MMENGINE):
        facts.insert(0, ("the averaged weights" if found.container == MMENGINE[0] else "not averaged") + " in mmengine")
    return f"{name} ({', '.join(facts[:4])})" if facts else name


def _list_records(content: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    """The numbers beside the weights that say how far training had come, and how good the network was."""
    meta = content.get("meta")
    for holder in (content, meta if isinstance(meta, Mapping) else {}):
        for key, value in holder.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and isinstance(key, str) and len(key) < 40 and _RECORDED.search(key):
                yield key, value


def _split_by_prefix(holder: Mapping[Any, Any], container: str | None, stems: Stems, heads: Stems) -> list[StateDict]:
    """The state dicts in one container: one for each prefix that a stem has there."""
    tensors = {str(name): value for name, value in holder.items() if _is_weight(str(name), value)}
    loose = tuple(str(name) for name in holder if str(name) not in tensors)
    whole = _find_prefixes(tensors, heads)
    prefixes = sorted(_find_prefixes(tensors, stems) | whole, key=lambda prefix: (len(prefix), prefix)) or [""]
    parts = {prefix for prefix in prefixes for head in whole if _is_backbone(prefix, head)}
    alone = len(prefixes) - len(parts) == 1
    found = []
    for prefix in prefixes:
        longer = tuple(other for other in prefixes if other not in (prefix, *parts) and other.startswith(prefix))
        mine = {name for name in tensors if name.startswith(prefix) and not (longer and name.startswith(longer))}
        own = alone and prefix not in parts
        key = container if own else f"{container}." * (container is not None) + prefix.rstrip(".")
        found.append(
            StateDict(
                key=key if key != "" else ".",
                tensors=_unwrap({name.removeprefix(prefix): tensors[name] for name in tensors if name in mine}),
                others=(*(name for name in tensors if name not in mine), *loose),
                container=container,
                part=prefix in parts,
            )
        )
    return sorted(found, key=lambda each: each.part)


def _find_prefixes(names: Iterable[str], stems: Stems) -> set[str]:
    return {each for name in names if (each := _find_prefix(name, stems)) is not None}


def _is_backbone(prefix: str, head: str) -> bool:
    """Whether the prefix is that of the backbone of the network with the prefix `head`."""
    between = prefix.removeprefix(head).split(".")[:-1] if prefix.startswith(head) else []
    return [part for part in between if part not in WRAPPERS] == [BACKBONE]


def _is_weight(name: str, value: Any) -> bool:
    return isinstance(value, Tensor) and name.rpartition(".")[2] not in LEFTOVERS


def _find_prefix(name: str, stems: Stems) -> str | None:
    """What precedes the name of a tensor that a stem matches; None: none matches."""
    parts = name.split(".")
    plain = [at for at, part in enumerate(parts) if part not in WRAPPERS]
    for stem in stems:
        if match := stem.match(".".join(parts[at] for at in plain)):
            return "".join(f"{part}." for part in parts[: plain[match[1].count(".")]])
    return None


def _unwrap(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names without wrappers; where two would have one name, both keep theirs."""
    plain = [".".join(part for part in name.split(".") if part not in WRAPPERS) for name in tensors]
    twice = {name for name, count in Counter(plain).items() if count > 1}
    pairs = zip(tensors.items(), plain, strict=True)
    return {name if short in twice else short: tensor for (name, tensor), short in pairs}


def _are_equal(one: Tensor, other: Tensor) -> bool:
    plain = all(each.layout == torch.strided and each.device.type == "cpu" for each in (one, other))
    return plain and one.shape == other.shape and torch.equal(one, other.to(one.dtype))


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())

"""What the text of a training configuration says of a head that its tensors do not show."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evm_deploy.models.family import UnsupportedNetwork
from evm_deploy.models.recorded.openmmlab import read_model
from evm_deploy.models.recorded.statement import quote


@dataclass(frozen=True)
class ChosenNumber:
    """A number at `path` of the text's `model` that goes into `field` of a head's configuration, within limits.

    Whole where `least` is an int. Where the field is a tuple, a list of numbers.
    """

    path: str
    field: str
    least: float
    most: float


def apply_settings(
    config: Any, content: Any, list_fixed: Callable[[Any], Mapping[str, Any]], chosen: Sequence[ChosenNumber]
) -> Any:
    """The configuration of a head with what the text in a file's content says.

    list_fixed: of the configuration, the only values that the head can have, by their paths in the text's `model`; a
    set: one of them. Raises UnsupportedNetwork: the text has another, or a number out of range.
    """
    model = read_model(content)
    for each in chosen:
        said = _look_up(model, each.path)
        if said is not None:
            config = _replace(config, each.field.split("."), said, each)
    for path, value in list_fixed(config).items():
        said, allowed = _look_up(model, path), value if isinstance(value, set) else [value]
        if said is not None and all(_make_lists(said) != _make_lists(each) for each in allowed):
            known = " or ".join(sorted(map(_quote, allowed)))
            raise UnsupportedNetwork(f"its configuration has {path} {_quote(said)}, not {known}")
    return config


def _look_up(model: Mapping[str, Any], path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _replace(config: Any, field: Sequence[str], said: Any, chosen: ChosenNumber) -> Any:
    """`config` with the value in the place of a field, or of a field of a field."""
    name, *rest = field
    old = getattr(config, name)
    if rest:
        return dataclasses.replace(config, **{name: _replace(old, rest, said, chosen)})
    numbers = said if isinstance(said, (list, tuple)) else [said]
    kind = int if isinstance(chosen.least, int) else (int, float)
    right = all(isinstance(n, kind) and not isinstance(n, bool) and chosen.least <= n <= chosen.most for n in numbers)
    if not right or not numbers or isinstance(said, (list, tuple)) != isinstance(old, tuple):
        raise UnsupportedNetwork(f"its configuration has {chosen.path} {_quote(said)}")
    value = tuple(map(float, numbers)) if isinstance(old, tuple) else type(old)(said)
    return dataclasses.replace(config, **{name: value})


def _make_lists(value: Any) -> Any:
    return [_make_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def _quote(said: Any) -> str:
    """A value of an untrusted text in a line for people."""
    return f"[{', '.join(map(quote, said[:6]))}]" if isinstance(said, (list, tuple)) else quote(said)

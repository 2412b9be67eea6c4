"""The program of a module whose inputs have axes of any length: none of these may be fixed by what the module does."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from evm_deploy.errors import InputError

ASKED = "which dynamic_shapes asks to be of any length"


def export_free(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, title: str
) -> torch.export.ExportedProgram:
    """What `torch.export.export` makes of it, `shapes` being as `torch.onnx.export` takes them.

    Raises InputError: an axis that `shapes` frees has one length, or only some lengths.
    """

    def export(free: Any) -> torch.export.ExportedProgram:
        named = pytree.tree_map(lambda dim: free(dim) if _is_free(dim) else dim, shapes)
        return torch.export.export(module, args, kwargs, dynamic_shapes=named, strict=False)

    try:
        program = export(lambda dim: torch.export.Dim.DYNAMIC if isinstance(dim, str) else dim)
    except torch._dynamo.exc.UserError as error:
        said, _, reasons = str(error).partition("\n")
        if not said.startswith("Constraints violated"):
            raise
        _check(export(lambda dim: torch.export.Dim.AUTO), module, args, kwargs, shapes, title)
        reason = reasons.strip().partition("\n")[0].removeprefix("- ")
        what = f"{title} takes only some lengths of an axis {ASKED}: {reason}"
        raise InputError(what, "leave that axis out of dynamic_shapes, or say which lengths it takes.") from error
    _check(program, module, args, kwargs, shapes, title)
    return program


def _is_free(dim: Any) -> bool:
    return dim is not None and not isinstance(dim, int) and dim != torch.export.Dim.STATIC


def _check(
    program: torch.export.ExportedProgram,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shapes: Any,
    title: str,
) -> None:
    """Raises InputError for the first axis that is free in `shapes` and fixed in the program."""
    values = {node.name: node.meta.get("val") for node in program.graph.find_nodes(op="placeholder")}
    leaves = pytree.tree_leaves((args, kwargs))
    found = {id(leaf): values.get(name) for leaf, name in zip(leaves, program.graph_signature.user_inputs, strict=True)}
    given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    named = shapes if isinstance(shapes, Mapping) or shapes is None else dict(zip(given, shapes, strict=False))
    for name, tensor, axis in _list_free(given, named, ""):
        traced = found.get(id(tensor))
        size = traced.shape[axis] if isinstance(traced, Tensor) else None
        if size is not None and is_concrete_int(size):
            what = f"{title} fixes axis {axis} of {name} at {size}, {ASKED}."
            fix = "leave that axis out of dynamic_shapes, or remove what computes with that length as a number."
            raise InputError(what, "give an example that is longer than 1 there." if int(size) == 1 else fix)


def _list_free(value: Any, shapes: Any, name: str) -> Iterator[tuple[str, Tensor, int]]:
    """The free axes of the tensors in `value`, each with the name of its tensor."""
    if shapes is None:
        return
    known = dict(shapes) if isinstance(shapes, Mapping) else dict(enumerate(shapes))
    if isinstance(value, Tensor):
        yield from ((name, value, axis) for axis, dim in known.items() if _is_free(dim))
    elif isinstance(value, Mapping | list | tuple):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _list_free(each, known.get(key), f"{name}.{key}" if name else str(key))

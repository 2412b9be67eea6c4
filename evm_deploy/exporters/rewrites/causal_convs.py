"""Mamba's causal depthwise convolution and its SiLU become one `evm::CausalConv`, whose tokens may be in any order."""

from typing import Any

import torch
from torch.fx import Node

from evm_deploy.exporters.rewrites.adding import list_tokens, make_writer, read_sizes
from evm_deploy.exporters.rewrites.constants import Constants
from evm_deploy.exporters.rewrites.movements import Unknown, aten
from evm_deploy.exporters.rewrites.projections import find_tokens
from evm_deploy.scan import ops

CONVOLVE = ops.find_overload("causal_conv")
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def join_causal_convs(program: torch.export.ExportedProgram) -> None:
    """Rewrites, in place, the convolutions of `program`, which mutates nothing and has no free size but the batch."""
    constants = Constants(program)
    for node in program.graph.find_nodes(op="call_function", target=aten.silu.default):
        try:
            _replace(node, *_read(node, constants), constants)
        except Unknown:
            continue
    program.graph.eliminate_dead_code()


def _read(silu: Node, constants: Constants) -> tuple[Node, torch.Tensor, torch.Tensor]:
    """The sequence (B, D, L), the weights (1, taps, D) and the bias (1, D). Raises Unknown: it is something else."""
    node: Any = silu.args[0]
    cut = node.target is aten.slice.Tensor
    conv = node.args[0] if cut else node
    if conv.target is not aten.conv1d.default:
        raise Unknown
    given: dict[str, Any] = dict(zip(_NAMES, conv.args, strict=False)) | conv.kwargs
    weight, bias, sequence = constants.find(given["weight"]), given.get("bias"), given["input"]
    value = None if bias is None else constants.find(bias)
    depthwise = weight is not None and weight.shape[1] == 1 and given.get("groups") == weight.shape[0]
    if weight is None or not depthwise or (bias is not None and value is None):
        raise Unknown
    before = weight.shape[2] - 1
    if cut:  # what was added after the sequence is cut off
        L, padding = sequence.meta["val"].shape[-1], [before]
        if node.args[1] not in (2, -1) or list(node.args[2:4]) != [0, L] or len(node.args) > 4:
            raise Unknown
    else:
        padding = [0]
        sequence = _find_padded(sequence, before)
    plain = [given.get(name, [1]) for name in ("stride", "dilation")] == [[1], [1]]
    if not plain or given.get("padding", [0]) != padding or sequence.meta["val"].dtype != weight.dtype:
        raise Unknown
    value = torch.zeros_like(weight[:, 0, 0]) if value is None else value
    return sequence, weight[:, 0].t().unsqueeze(0), value.unsqueeze(0)


def _find_padded(node: Any, before: int) -> Node:
    """What `node` has with so many zeros before it. Raises Unknown: it has others."""
    known = node.target in (aten.pad.default, aten.constant_pad_nd.default) and list(node.args[1]) == [before, 0]
    if not known or any(each not in ("constant", 0, 0.0, None) for each in (*node.args[2:], *node.kwargs.values())):
        raise Unknown
    padded: Node = node.args[0]
    return padded


def _replace(silu: Node, sequence: Node, weight: torch.Tensor, bias: torch.Tensor, constants: Constants) -> None:
    if sequence.meta["val"].dim() != 3:
        raise Unknown
    tokens, layout, order = find_tokens(sequence, constants)
    batch, D, L = read_sizes(silu)
    write, taps = make_writer(silu), weight.shape[1]
    values = {"weight": weight, "bias": bias, "order": order}
    added = [constants.add(f"{silu.name}_{name}", value, silu) for name, value in values.items()]
    with silu.graph.inserting_before(silu.next):
        y = write(CONVOLVE, list_tokens(write, tokens, layout, batch), *added, taps)
        y = write(aten.transpose.int, write(aten.reshape.default, y, [batch, L, D]), 1, 2)
    silu.replace_all_uses_with(y)

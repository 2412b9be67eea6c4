"""How the inputs of a scan come from tokens: which values of a tensor they are, or which products of these."""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from evm_deploy.exporters.rewrites.adding import Layout
from evm_deploy.exporters.rewrites.constants import Constants
from evm_deploy.exporters.rewrites.contractions import Contraction, read_contraction
from evm_deploy.exporters.rewrites.movements import Unknown, list_tensors, move, moves, number, shape_of


@dataclass(frozen=True, eq=False)
class Projected:
    """Sums of `of` with weights: value r C + c is the sum over i of weights[c, i] times value rows[r, i] of `of`."""

    rows: Tensor  # (R, I)
    weights: Tensor  # (C, I)
    bias: Tensor | None  # (C,)
    of: "Projected | None"  # None: the tokens

    def divide(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The places r and c of these values."""
        places = numbers.long()
        return places // len(self.weights), places % len(self.weights)


class Values(NamedTuple):
    """Where the values of a node come from: their numbers (a list of them where it gives several) in `of`."""

    numbers: Any
    of: Projected | None


class Projections(NamedTuple):
    """The inputs of `evm::OrderedScan` that give those of a scan; `tokens` has the tokens, in `layout`."""

    tokens: Node
    layout: Layout
    order: Tensor  # (K, L)
    x_proj: Tensor  # (K, D, R+2N)
    dt_proj: Tensor  # (K, R, D)
    bias: Tensor | None  # (K, D), a part of dt_bias


def find_projections(u: Node, delta: Node, B: Node, C: Node, constants: Constants) -> Projections:
    """Those of a scan with these inputs. Raises Unknown: they do not come from tokens in this way."""
    for tokens in _list_sources(u, constants):
        try:
            values = _follow(tokens, (u, delta, B, C), constants)
            numbers = values[u].numbers
            layout, order = _read_order(numbers, prod(shape_of(tokens)) // numbers.shape[0])
            dt_proj, dt, bias = _read_product_of_rank(values[delta])
            x_proj = torch.cat([_read_weights(each, numbers) for each in (dt, values[B], values[C])], 1)
        except Unknown:
            continue
        return Projections(tokens, layout, order, x_proj.transpose(1, 2).contiguous(), dt_proj, bias)
    raise Unknown


def find_tokens(sequence: Node, constants: Constants) -> tuple[Node, Layout, Tensor]:
    """The tokens, their layout, and the order (1, L) in which the sequence (B, D, L) has them. Raises Unknown."""
    for tokens in _list_sources(sequence, constants):
        try:
            numbers = _follow(tokens, (sequence,), constants)[sequence].numbers.transpose(1, 2).unsqueeze(1)
            return tokens, *_read_order(numbers, prod(shape_of(tokens)) // numbers.shape[0])
        except Unknown:
            continue
    raise Unknown


def _list_sources(u: Node, constants: Constants) -> list[Node]:
    """The nodes of which each alone has all values of u; the first in the graph first."""
    sources = []
    waiting = {u}
    while waiting:
        node = max(waiting)  # the last in the graph
        waiting.remove(node)
        if not waiting and isinstance(node.meta["val"], torch.Tensor):
            sources.append(node)
        if not moves(node):
            break
        waiting.update(_list_data(node, constants))
    return sources[::-1]


def _follow(tokens: Node, results: tuple[Node, ...], constants: Constants) -> dict[Node, Values]:
    """Where the values of `results`, and of all between, come from."""
    values = {tokens: Values(number(tokens), None)}
    waiting = list(results)
    while waiting:
        node = waiting[-1]
        if node in values:
            waiting.pop()
            continue
        product = None if moves(node) else read_contraction(node, constants.find)
        if product is None and not moves(node):
            raise Unknown
        inputs = [product.data] if product is not None else _list_data(node, constants)
        new = [each for each in inputs if each not in values]
        if new:
            waiting += new
        elif product is not None:
            values[node] = _project(product, values[product.data], shape_of(node))
        else:
            values[node] = _move(node, values, inputs, constants)
    return values


def _list_data(node: Node, constants: Constants) -> list[Node]:
    """The inputs whose values it moves: neither sizes nor indices."""
    return [each for each in list_tensors(node) if constants.find(each) is None]


def _move(node: Node, values: dict[Node, Values], inputs: list[Node], constants: Constants) -> Values:
    sources = {values[each].of for each in inputs}
    if len(sources) != 1:
        raise Unknown

    def find(each: Node) -> Any:
        if each in inputs:
            return values[each].numbers
        value = constants.find(each)
        if value is None or value.is_floating_point():  # weights among the values
            raise Unknown
        return value

    return Values(move(node, find), sources.pop())


def _project(product: Contraction, data: Values, shape: list[int]) -> Values:
    numbers = data.numbers.reshape(product.data_shape)
    sizes = dict(zip(product.of_data, numbers.shape, strict=True)) | dict(
        zip(product.of_weight, product.weight.shape, strict=True)
    )
    summed, kept, chosen = product.summed, product.kept, product.chosen
    terms = prod(sizes[each] for each in summed)
    rows = _arrange(numbers, product.of_data, kept + summed).reshape(-1, terms)
    weights = _arrange(product.weight, product.of_weight, chosen + summed).reshape(-1, terms)

    def place(letters: str) -> Tensor:
        """The number of the row that each value of the result has."""
        own = torch.arange(prod(sizes[each] for each in letters)).view([sizes[each] for each in letters])
        return own.view([sizes[each] if each in letters else 1 for each in product.of_result])

    result = place(kept) * len(weights) + place(chosen)
    bias = None if product.bias is None else product.bias.reshape(-1)
    return Values(result.reshape(shape), Projected(rows, weights, bias, data.of))


def _arrange(value: Tensor, letters: str, wanted: str) -> Tensor:
    return value.permute([letters.index(each) for each in wanted])


def _read_order(numbers: Tensor, of_each: int) -> tuple[Layout, Tensor]:
    """How the tokens lie, and the order (K, L) of the values (B, K, L, D), of which each of the batch has so many."""
    batch, _, _, D = numbers.shape
    stride = int(numbers[0, 0, 0, 1] - numbers[0, 0, 0, 0]) if D > 1 else 1
    if stride < 1 or of_each % (D * stride):
        raise Unknown
    firsts = numbers[0, :, :, 0].long()
    offsets = torch.arange(batch).view(-1, 1, 1, 1) * of_each + torch.arange(D) * stride
    inside = (firsts >= 0).all() and (firsts < of_each).all() and (firsts % (D * stride) < stride).all()
    if not inside or not torch.equal(numbers.long(), firsts.unsqueeze(-1) + offsets):
        raise Unknown
    order = firsts // (D * stride) * stride + firsts % stride
    return Layout(of_each // (D * stride), D, stride), order


def _read_product_of_rank(delta: Values) -> tuple[Tensor, Values, Tensor | None]:
    """dt_proj (K, R, D), dt (B, K, L, R), and the bias (K, D), that give delta."""
    last = delta.of
    if last is None or last.of is None:
        raise Unknown
    rows, columns = last.divide(delta.numbers)
    if (rows != rows[..., :1]).any() or (columns != columns[:1, :, :1]).any():
        raise Unknown
    columns = columns[0, :, 0]  # (K, D)
    bias = None if last.bias is None else last.bias[columns]
    return last.weights[columns].transpose(1, 2).contiguous(), Values(last.rows[rows[..., 0]], last.of), bias


def _read_weights(features: Values, u: Tensor) -> Tensor:
    """The weights (K, F, D) with which the features (B, K, L, F) are products of the tokens u (B, K, L, D)."""
    product = features.of
    if product is None or product.of is not None or (product.bias is not None and product.bias.any()):
        raise Unknown
    rows, columns = product.divide(features.numbers)
    same_token = (rows == rows[..., :1]).all() and (columns == columns[:1, :, :1]).all()
    if not same_token or not torch.equal(product.rows[rows[..., 0]], u):
        raise Unknown
    return product.weights[columns[0, :, 0]]

"""A scan with its gathers, projections and sums around it becomes one `evm::OrderedScan`, where this is proven.

What only moves values is run on their numbers, which shows the order of the tokens and where the results belong;
products with constant weights are followed the same way. Any way of writing a scan of tokens in several orders is found
so, of images of a fixed size. What cannot be followed stays as it is.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from evm_deploy.exporters.rewrites.adding import list_tokens, make_writer, place_tokens, read_sizes
from evm_deploy.exporters.rewrites.constants import Constants
from evm_deploy.exporters.rewrites.merges import Merge, find_merge
from evm_deploy.exporters.rewrites.movements import Unknown, aten
from evm_deploy.exporters.rewrites.projections import Projections, find_projections
from evm_deploy.scan import ops

SCAN, ORDERED = ops.find_overload("selective_scan"), ops.find_overload("ordered_scan")
_NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "delta_softplus")


def order_scans(program: torch.export.ExportedProgram) -> None:
    """Rewrites, in place, the scans of `program`, which mutates nothing."""
    constants = Constants(program)
    for scan in program.graph.find_nodes(op="call_function", target=SCAN):
        given = dict(zip(_NAMES, scan.args, strict=False)) | scan.kwargs
        if not all(isinstance(size, int) for size in scan.meta["val"].shape[1:]):
            continue
        try:
            parameters = _find_parameters(given, constants)
            found = find_projections(given["u"], given["delta"], given["B"], given["C"], constants)
            merge = find_merge(scan)
            read_sizes(scan), read_sizes(merge.node)
        except Unknown:
            continue
        _replace(scan, found, parameters, merge, constants)
    for node in program.graph.find_nodes(op="call_function", target=aten._assert_tensor_metadata.default):
        program.graph.erase_node(node)  # of types that are known; it would keep what it looks at
    program.graph.eliminate_dead_code()


def _find_parameters(given: dict[str, Any], constants: Constants) -> dict[str, Tensor]:
    """A (K, N, D), D and delta_bias (K, D), float32. Raises Unknown: they are computed, or there is no softplus."""
    if not given.get("delta_softplus"):
        raise Unknown
    A = constants.find(given["A"])
    if A is None:
        raise Unknown
    found = {"A": A.float()}
    for name in ("D", "delta_bias"):
        node = given.get(name)
        value = torch.zeros_like(A[:, 0]) if node is None else constants.find(node)
        if value is None:
            raise Unknown
        found[name] = value.float()
    return found


def _replace(scan: Node, found: Projections, parameters: dict[str, Tensor], merge: Merge, constants: Constants) -> None:
    """Puts the ordered scan, and what arranges tokens before it and results after it, in the place of `merge.node`."""
    dtype, write = scan.meta["val"].dtype, make_writer(scan)
    bias = parameters["delta_bias"] + (0 if found.bias is None else found.bias.float())
    values = {
        "x_proj": found.x_proj.to(dtype),
        "dt_proj": found.dt_proj.to(dtype),
        "dt_bias": bias,
        "A": parameters["A"],
        "D": parameters["D"],
        "order": found.order,
        "back": merge.back,
    }
    added = [constants.add(f"{scan.name}_{name}", value, scan) for name, value in values.items()]

    with scan.graph.inserting_before(merge.node.next):
        x = found.tokens
        if x.meta["val"].dtype != dtype:
            x = write(aten._to_copy.default, x, dtype=dtype)
        y = write(ORDERED, list_tokens(write, x, found.layout, read_sizes(scan)[0]), *added)
        y = place_tokens(write, y, merge.layout, read_sizes(merge.node))
    merge.node.replace_all_uses_with(y)

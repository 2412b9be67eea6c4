"""What happens to a traced program before a target is written from it."""

import torch
from torch.fx import Node

from evm_deploy.exporters.rewrites.causal_convs import join_causal_convs
from evm_deploy.exporters.rewrites.fold_constants import fold_constants
from evm_deploy.exporters.rewrites.join_slices import join_slices
from evm_deploy.exporters.rewrites.movements import aten
from evm_deploy.exporters.rewrites.order_scans import SCAN, order_scans
from evm_deploy.exporters.rewrites.write_products import write_products


def rewrite(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """`program` in fewer and faster operations: its assignments to slices and its scans. It may be changed in place."""
    nodes = program.graph.nodes
    assigns = any(node.target is aten.copy_.default for node in nodes)
    scans = any(node.target is SCAN for node in nodes)
    if assigns or (scans and any(_mutates(node) for node in nodes)):
        program = program.run_decompositions({})
    if assigns:
        join_slices(program)
    if scans and _is_fixed(program):
        join_causal_convs(program)
        order_scans(program)
    write_products(program)
    if scans:
        fold_constants(program)
    (output,) = program.graph.find_nodes(op="output")
    for spec, node in zip(program.graph_signature.output_specs, output.args[0], strict=True):
        if isinstance(node, Node):
            spec.arg.name = node.name
    program.graph_module.recompile()
    return program


def _mutates(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_fixed(program: torch.export.ExportedProgram) -> bool:
    """Whether no size but that of the batch, the first axis of the inputs, is free."""
    inputs = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in program.graph.find_nodes(op="placeholder") if node.name in inputs]
    shapes = [value.shape for value in values if isinstance(value, torch.Tensor)]
    return all(isinstance(size, int) for shape in shapes for size in shape[1:])

"""The constants of a traced program: what nodes that depend on weights alone give, and constants that are added."""

import operator
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.fx.node import map_arg


class Constants:
    """Those of one program."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        held = {**program.state_dict, **program.constants}
        self._values: dict[Node, Any] = {}  # None: not constant
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.find_nodes(op="placeholder"):
            value = held.get(specs[node.name].target or "")
            self._values[node] = value if isinstance(value, Tensor) else None

    def find(self, node: Node) -> Tensor | None:
        """What `node` gives, if that depends on weights alone."""
        waiting = [node]
        while waiting:  # no recursion: chains may be long
            last = waiting[-1]
            new = [each for each in last.all_input_nodes if each not in self._values]
            if last in self._values or (new and self._is_pure(last)):
                waiting.pop() if last in self._values else waiting.extend(new)
                continue
            self._values[waiting.pop()] = self._compute(last)
        value = self._values[node]
        return value if isinstance(value, Tensor) else None

    def add(self, name: str, value: Tensor, like: Node) -> Node:
        """A new constant, in the module that `like` is in."""
        graph, signature = self.program.graph, self.program.graph_signature
        kinds = [spec.kind for spec in signature.input_specs]
        place = kinds.index(InputKind.USER_INPUT)
        with graph.inserting_before(graph.find_nodes(op="placeholder")[place]):
            node: Node = graph.placeholder(name)
        value = value.detach().contiguous()
        node.meta["val"] = like.meta["val"].fake_mode.from_tensor(value, static_shapes=True)
        modules = [path for path, _ in (like.meta.get("nn_module_stack") or {}).values()]
        target = f"{modules[-1]}.{node.name}" if modules and modules[-1] else node.name
        signature.input_specs.insert(place, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(node.name), target))
        self.program.constants[target] = value
        self._values[node] = value
        return node

    def _is_pure(self, node: Node) -> bool:
        target = node.target
        if target is operator.getitem:
            return True
        return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in target.tags

    def _compute(self, node: Node) -> Any:
        given = [self._values[each] for each in node.all_input_nodes] if self._is_pure(node) else [None]
        if any(value is None for value in given):
            return None
        args, kwargs = map_arg(node.args, self._values.__getitem__), map_arg(node.kwargs, self._values.__getitem__)
        run: Any = node.target
        with torch.no_grad():
            return run(*args, **kwargs)

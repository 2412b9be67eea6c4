"""The outputs of a Core AI program, and names of values between: what a program computes does not depend on these."""

import re
from collections.abc import Mapping
from typing import Any

from evm_deploy.optional import import_library

FUNCTION = "main"
NAME = "value_name"  # in the debug information of an operation
_NAMED = re.compile(rf'"{NAME}": "([^"]*)"')


def list_outputs(program: Any) -> list[Any]:
    """The values that the program gives, in order."""
    return list(_find_last(program).operands)


def set_outputs(program: Any, values: Mapping[str, Any]) -> None:
    """Makes these values of `FUNCTION`, by their names, all that it gives."""
    graph, last = program._get_graph(FUNCTION), _find_last(program)
    ir = import_library("coreai._compiler.ir", "coreai-core")
    operations = import_library("coreai._compiler.dialects.coreai", "coreai-core")
    with graph.context, graph.location:
        with ir.InsertionPoint(last):
            operations.output(list(values.values()))
        last.erase()
        types = [value.type for value in values.values()]
        given = ir.FunctionType.get(graph.function_type.value.inputs, types)
        graph.attributes["function_type"] = ir.TypeAttr.get(given)
        names = [ir.DictAttr.get({"coreai.name": ir.StringAttr.get(name)}) for name in values]
        graph.res_attrs = ir.ArrayAttr.get(names)


def name_values(program: Any, values: Mapping[str, Any]) -> None:
    """Names what operations give, in their debug information. A value may have several names."""
    ir = import_library("coreai._compiler.ir", "coreai-core")
    debug = import_library("coreai._compiler.dialects.debuginfo.attrs", "coreai-core")
    bindings = import_library("coreai._compiler._mlir_libs._coreaiIR._bindings.mlir", "coreai-core")
    names: list[tuple[Any, list[str]]] = []
    for name, value in values.items():
        known = next((known for other, known in names if other == value), None)
        if known is None:
            names.append((value, known := []))
        known.append(name)
    with program._get_graph(FUNCTION).context:
        nowhere = ir.Location.file("-", 0, 0)
        for value, said in names:
            data = debug.metadata_attr(NAME, data=ir.StringAttr.get(" ".join(said)))
            location = debug.location_attr(src=nowhere, scope=ir.UnitAttr.get(), metadata=[data])
            bindings.set_op_location(value.owner, location)


def find_named(program: Any) -> dict[str, Any]:
    """The values of `FUNCTION` that have names, in the order in which they are computed."""
    found = {}
    for operation in program._get_graph(FUNCTION).bodyRegion.blocks[0].operations:
        match = _NAMED.search(str(operation.location))
        for name in match[1].split() if match else ():
            found[name] = operation.results[0]
    return found


def _find_last(program: Any) -> Any:
    *_, last = program._get_graph(FUNCTION).bodyRegion.blocks[0].operations
    return last

"""Describes a package in plain values."""

from collections import Counter
from pathlib import Path
from typing import Any

from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.literals import read_class_labels
from evm_deploy.runtimes.mil.program import Function, Literal, MilModel, read_model


def describe(package: Path) -> dict[str, Any]:
    """Describes an `.mlpackage`: the names and inputs of all functions, and more facts about the default one.

    `operations` and `operators` count computed operations, `compressed_constants` the constants that are decoded
    first; `largest_rank` is that of computed values. Runs nothing. Raises BundleError (see `read_model`),
    MissingToolError.
    """
    model = read_model(package)
    function = model.functions[0]
    computed = [operation for operation in function.operations if not operation.is_constant]
    types = [value.type for operation in computed for value in operation.outputs if value.type]
    first = [operation.outputs[0].type for operation in computed if operation.outputs]
    return {
        "specification_version": model.version,
        "functions": {entry.name: ", ".join(_describe_inputs(entry).values()) for entry in model.functions},
        "inputs": _describe_inputs(function),
        "outputs": {name: function.features[name].type for name in function.outputs},
        "class_labels": len(read_class_labels(function)) or None,
        "operations": len(computed),
        "operators": dict(Counter(operation.kind for operation in computed).most_common()),
        "float_operations": dict(Counter(t.dtype.name for t in first if t and t.dtype and t.dtype.is_float)),
        "compressed_constants": sum(o.is_constant and o.kind != "const" for o in function.operations),
        "largest_rank": max((len(kind.shape) for kind in types), default=0),
        "weight_bytes": _count_weight_bytes(model),
        "metadata": dict(model.metadata),
    }


def _describe_inputs(function: Function) -> dict[str, str]:
    return {value.name: function.features[value.name].type for value in function.inputs}


def _count_weight_bytes(model: MilModel) -> int:
    arguments = (
        argument
        for function in model.functions
        for operation in function.operations
        for bound in operation.arguments.values()
        for argument in bound
    )
    files = {argument.file for argument in arguments if isinstance(argument, Literal)}
    blobs = Blobs(model.folder)
    return sum(blobs.path(name).stat().st_size for name in files if name is not None)

"""What a package holds, in plain values."""

from collections import Counter
from pathlib import Path
from typing import Any

from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.literals import labels
from evm_deploy.runtimes.mil.program import Function, Literal, Model, read_model


def describe(package: Path) -> dict[str, Any]:
    """The facts of the `.mlpackage`: of all its functions the names and inputs, of the default one the rest.

    `operations` and `operators` count what is computed, `compressed_constants` what is decoded before; `largest_rank`
    is that of what is computed. Runs nothing. Raises BundleError (see `read_model`), MissingToolError.
    """
    model = read_model(package)
    function = model.functions[0]
    computed = [operation for operation in function.operations if not operation.is_constant]
    types = [value.type for operation in computed for value in operation.outputs if value.type]
    first = [operation.outputs[0].type for operation in computed if operation.outputs]
    return {
        "specification_version": model.version,
        "functions": {entry.name: ", ".join(_inputs(entry).values()) for entry in model.functions},
        "inputs": _inputs(function),
        "outputs": {name: function.features[name].type for name in function.outputs},
        "class_labels": len(labels(function)) or None,
        "operations": len(computed),
        "operators": dict(Counter(operation.kind for operation in computed).most_common()),
        "float_operations": dict(Counter(t.dtype.name for t in first if t and t.dtype and t.dtype.is_float)),
        "compressed_constants": sum(o.is_constant and o.kind != "const" for o in function.operations),
        "largest_rank": max((len(kind.shape) for kind in types), default=0),
        "weight_bytes": _weight_bytes(model),
        "metadata": dict(model.metadata),
    }


def _inputs(function: Function) -> dict[str, str]:
    return {value.name: function.features[value.name].type for value in function.inputs}


def _weight_bytes(model: Model) -> int:
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

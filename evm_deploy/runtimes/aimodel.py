"""Reads a saved `.aimodel`: what its program computes, and whether a Neural Engine can take that."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.errors import BundleError, first_line
from evm_deploy.optional import coreai, import_library

FIX = "copy the whole folder, or export the model again."
LARGEST_RANK = 5


@dataclass(frozen=True)
class CoreAiOperation:
    """One operation of a program; the type and shape of its first result, if that is a tensor. Unknown sides: -1."""

    kind: str  # such as "conv2d"
    dtype: str | None = None  # such as "f32"
    shape: tuple[int, ...] = ()


def open_asset(path: Path) -> Any:
    """The `AIModelAsset` at `path`, whose program can be read. Raises BundleError: it cannot; MissingToolError."""
    library = coreai()
    try:
        with divert_stderr():
            asset = library.AIModelAsset.load(path)
            summary = asset.summary(include_statistics=False)  # names nothing where the compiler would end the process
    except RuntimeError as error:
        raise BundleError(f"{path} is no model of Core AI: {first_line(error)}.", FIX) from error
    if summary is None or not summary.function_names:
        raise BundleError(f"{path} holds no program of Core AI that can be read.", FIX)
    return asset


def read_operations(asset: Any) -> list[CoreAiOperation]:
    """All operations and constants of the saved program, those of its private graphs too."""
    ir, found = import_library("coreai._compiler.ir", "coreai-core"), list[CoreAiOperation]()

    def note(operation: Any) -> Any:
        kind = operation.name.removeprefix("coreai.").removeprefix("decomposable.")
        for result in [*operation.results][:1]:
            tensor = ir.RankedTensorType(result.type) if ir.RankedTensorType.isinstance(result.type) else None
            if tensor is not None:
                static = (-1 if tensor.is_dynamic_dim(i) else tensor.get_dim_size(i) for i in range(tensor.rank))
                found.append(CoreAiOperation(kind, str(tensor.element_type), tuple(static)))
        return ir.WalkResult.ADVANCE

    with divert_stderr():
        program = asset.program  # keeps what is walked alive
        program._module._mlir_module.operation.walk(note)
    return found


def find_broken_rules(operations: list[CoreAiOperation]) -> list[str]:
    """Why a Neural Engine cannot take the program; nothing where it can, as far as the rules are known."""
    rules: dict[str, Callable[[CoreAiOperation], bool]] = {
        f"more than {LARGEST_RANK} axes": lambda each: len(each.shape) > LARGEST_RANK,
        "a shape that is not fixed": lambda each: -1 in each.shape,
        "float64": lambda each: each.dtype == "f64",
    }
    broken = []
    for rule, breaks in rules.items():
        kinds = sorted({each.kind for each in operations if breaks(each)})
        if kinds:
            broken.append(f"{rule} ({', '.join(kinds)})")
    return broken


def describe(path: Path) -> dict[str, Any]:
    """An `.aimodel` in plain values; runs nothing. Raises what `open_asset` does."""
    asset = open_asset(path)
    summary, metadata, operations = asset.summary(include_statistics=False), asset.metadata, read_operations(asset)
    computed = [each for each in operations if each.kind != "constant"]
    return {
        "functions": list(summary.function_names),
        "inputs": {name: dict(summary.function_inputs(name)) for name in summary.function_names},
        "outputs": {name: dict(summary.function_outputs(name)) for name in summary.function_names},
        "operations": len(computed),
        "operators": dict(Counter(each.kind for each in computed).most_common()),
        "float_operations": dict(Counter(each.dtype for each in computed if each.dtype in ("f16", "f32", "f64"))),
        "largest_rank": max((len(each.shape) for each in operations), default=0),
        "kept_off_the_neural_engine_by": find_broken_rules(operations),
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "metadata": {
            "author": metadata.author,
            "license": metadata.license,
            "description": metadata.model_description,
            **metadata.creator_defined_metadata,
        },
    }


@contextlib.contextmanager
def divert_stderr() -> Iterator[None]:
    """Hides what the libraries below Python write there: a line for each function, and places in the bytes."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

"""Small ML Programs written with coremltools' own builder, saved, read back and evaluated."""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.program import read_model

KINDS = {torch.float16: "fp16", torch.float32: "fp32", torch.int32: "int32", torch.bool: "bool"}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """coremltools draws progress bars, and warns of what it uses itself."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def ct() -> ModuleType:
    """coremltools, or the test is skipped."""
    if importlib.util.find_spec("coremltools") is None:
        pytest.skip("coremltools is not installed")
    return coremltools()


@pytest.fixture(scope="session")
def save_program(ct: Any) -> Callable[..., Path]:
    """save_program(path, body, {"x": like this}, target="iOS16"): the program `body(mb, x=...)`, converted by no pass.

    The body returns a value or a tuple of them. Returns the path of the package.
    """
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types

    def saved(path: Path, body: Callable[..., Any], inputs: Mapping[str, Tensor], target: str = "iOS16") -> Path:
        version = getattr(ct.target, target)
        with silence():
            places = {
                name: mb.placeholder(tuple(x.shape), getattr(types, KINDS[x.dtype])) for name, x in inputs.items()
            }
            program = Program()
            with Function(places, version) as function:
                results = body(mb, **function.inputs)
                function.set_outputs(list(results) if isinstance(results, tuple) else [results])
            program.add_function("main", function)
            model = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=version,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            )
            model.save(str(path))
        return path

    return saved


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., dict[str, Tensor]]:
    """evaluate(package, x=tensor): the outputs of its default function."""

    def evaluated(package: Path, **inputs: Tensor) -> dict[str, Tensor]:
        model = read_model(package)
        return Evaluator(model.functions[0], Blobs(model.folder)).run(inputs)

    return evaluated


@pytest.fixture(scope="session")
def quiet(ct: Any) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which coremltools says nothing."""
    return silence


@pytest.fixture(scope="session")
def convert(ct: Any) -> Callable[..., Any]:
    """convert(module, example, target="iOS16", precision="fp32", **options): a coremltools model of the module."""

    def converted(
        module: nn.Module, example: Tensor, target: str = "iOS16", precision: str = "fp32", **options: Any
    ) -> Any:
        with silence():
            program = torch.export.export(module, (example,)).run_decompositions({})
            return ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, target),
                compute_precision={"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}[precision],
                skip_model_load=True,
                **options,
            )

    return converted

"""One traced program of a network, which every target is written from."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.errors import EvmDeployError, InputError, first_line
from evm_deploy.exporters.deployed import Deployed, FittedSteps, Parts, find_last_steps, find_post_process
from evm_deploy.exporters.rewrites import rewrite
from evm_deploy.graph.blocks import NETWORK
from evm_deploy.manifest import Manifest
from evm_deploy.models.location import locate_error, locate_stack
from evm_deploy.models.network import Network

Axes = dict[int, Any]  # of the image: the lengths that are chosen at run time
# What a network does that no graph can hold, by what PyTorch's exceptions say of it.
REASONS = (
    ("data-dependent", "what it computes depends on the values of tensors, which a graph cannot follow"),
    ("data dependent", "what it computes depends on the values of tensors, which a graph cannot follow"),
    ("unbacked symint", "what it computes depends on the values of tensors, which a graph cannot follow"),
    (".numpy()", "it turns tensors into NumPy arrays, which a graph cannot follow"),
    ("__array__", "it turns tensors into NumPy arrays, which a graph cannot follow"),
    (".tolist()", "it turns tensors into Python lists, which a graph cannot follow"),
)
_LOGGERS = ("torch.onnx._internal.exporter._registration", "torch.fx.experimental.symbolic_shapes")
ADVICE = "write that line with tensor operations (torch.where instead of if), or leave it out of the module."


def trace(
    deployed: Deployed | FittedSteps, images: tuple[Tensor, ...], axes: tuple[Axes, ...], title: str
) -> torch.export.ExportedProgram:
    """The program of `deployed` on images like these, of any length along the `axes` of each.

    Raises InputError: it does what a graph cannot hold; the error names the module and the line.
    """
    return _trace(lambda: _export(deployed, images, axes), deployed.model, title)


def trace_module(module: nn.Module, inputs: tuple[Tensor, ...], title: str) -> torch.export.ExportedProgram:
    """The program of a module on inputs of these shapes. Raises what `trace` does."""
    return _trace(lambda: torch.export.export(module, inputs, strict=False), module, title)


def _trace(
    export: Callable[[], torch.export.ExportedProgram], module: nn.Module, title: str
) -> torch.export.ExportedProgram:
    try:
        config: Any = torch.fx.experimental._config
        with quiet(), torch.no_grad(), config.patch(backed_size_oblivious=True):  # a batch of 1 is as any other
            program = rewrite(export())
    except EvmDeployError:
        raise
    except Exception as error:
        raise explain(error, module, title) from error
    return program


def deploy(
    network: Network,
    manifest: Manifest,
    *,
    uint8: bool = False,
    dtype: torch.dtype = torch.float32,
    parts: Parts = "results",
) -> Deployed:
    """The module that is traced: everything exact is folded, and it computes in `dtype`."""
    folded, last_steps = network.fold(network.module), find_last_steps(network, manifest)
    normalise = manifest.preprocessing if manifest.preprocessing.baked and last_steps is None else None
    if normalise is not None and network.fold_preprocessing is not None:
        folded, normalise = network.fold_preprocessing(folded, normalise.mean, normalise.std), None
    return Deployed(
        _convert(folded, dtype, network),
        post_process=find_post_process(manifest),
        uint8=uint8,
        dtype=dtype,
        normalise=normalise,
        last_steps=last_steps,
        parts=parts if manifest.last_steps is None else "given",
    ).eval()


def _convert(model: nn.Module, dtype: torch.dtype, network: Network) -> nn.Module:
    """The model in the dtype, but for what the last steps run."""
    exact = network.last_steps.parts if network.last_steps is not None else ()
    for name, part in model.named_children():
        if name not in exact:
            part.to(dtype)
    return model if exact else model.to(dtype)


def _export(deployed: nn.Module, images: tuple[Tensor, ...], axes: tuple[Axes, ...]) -> torch.export.ExportedProgram:
    """PyTorch guards against lengths that are too small for what it folded; these it says, and is asked again."""
    more: dict[str, Any] = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}
    try:
        return torch.export.export(deployed, images, dynamic_shapes=axes, **more)
    except torch._dynamo.exc.UserError as error:
        try:
            refine: Any = torch.export.dynamic_shapes.refine_dynamic_shapes_from_suggested_fixes
            refined = refine(error.msg, axes)
        except Exception:
            raise error from None
        pairs = ((dim, one[axis]) for one, found in zip(axes, refined, strict=True) for axis, dim in found.items())
        for dim, asked in pairs:
            if type(dim) is not type(asked):  # a length of its own, or a multiple of something
                what = f"the network takes only some lengths of the image's {asked.__name__} ({dim})"
                fix = "leave --dynamic-batch and --dynamic-size out, or remove what depends on one length."
                raise InputError(f"{what}.", fix) from error
        return torch.export.export(deployed, images, dynamic_shapes=refined, **more)


def explain(error: Exception, model: nn.Module, title: str) -> InputError:
    """For what tracing raised: the reason, and the module and line that it comes from."""
    text = str(error).lower()
    reason = next((said for sign, said in REASONS if sign in text), None)
    where = locate_error(error, model)
    if reason is not None:
        return InputError(f"{title} cannot be traced{where}: {reason}.", ADVICE)
    what = f"{title} cannot be traced{where}: {type(error).__name__}: {first_line(error)}."
    return InputError(what, "write that line with tensor operations that torch.export can follow.")


def explain_operation(error: Exception, program: torch.export.ExportedProgram, title: str) -> InputError:
    """For an operation of the program that the target has not: what it is, and where it comes from."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__
    named = re.search(r"aten\.\w+", " ".join(reversed(texts)))  # the innermost cause names the operation first
    operation = named[0] if named else "an operation"
    nodes = list(program.graph.nodes)
    with quiet(), suppress(Exception):  # this may be what failed: then the operation is named without its place
        nodes += program.run_decompositions().graph.nodes
    node = next((node for node in nodes if str(node.target).startswith(operation)), None)
    where = ""
    if node is not None:
        stack = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        module = str(stack[-1]).removeprefix(NETWORK.rstrip(".")).removeprefix(".") if stack else ""
        where = locate_stack(node.meta.get("stack_trace") or "", module)
    return InputError(f"{title} uses {operation}{where}, which cannot be exported.", "use another operation there.")


@contextmanager
def quiet() -> Iterator[None]:
    """PyTorch warns of libraries that networks do not use, of its own internals, and prints what it cannot trace."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

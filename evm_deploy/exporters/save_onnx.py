"""Any module as an ONNX file, without a bundle around it: for those who would call `torch.onnx.export` themselves."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from evm_deploy.errors import EvmDeployError, InputError, OptionError
from evm_deploy.exporters.export_options import OPSETS
from evm_deploy.exporters.free_axes import export_free
from evm_deploy.exporters.onnx import finish, translate
from evm_deploy.exporters.rewrites import rewrite
from evm_deploy.exporters.trace import explain, quiet
from evm_deploy.files import write_file
from evm_deploy.models.watching import call_watched


def save_onnx(
    module: nn.Module | torch.export.ExportedProgram,
    args: Sequence[Any] | torch.Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    dynamic_shapes: Any = None,
    opset: int = 20,
) -> onnx.ModelProto:
    """`module` as an ONNX model, its scans our operators with their bodies; written to `path` where one is given.

    module: in eval mode, float or half, with any inputs; it is copied. Or what `torch.export.export` made of it.
    args, kwargs: example inputs; dynamic_shapes, input_names, output_names: as `torch.onnx.export` takes them.
    Nothing is compared with PyTorch: that is what `evm_deploy.export` does.
    Raises InputError: what no graph can hold, with module and line, or an axis of dynamic_shapes that the module fixes;
    OptionError: no such opset; OutputError.
    """
    if opset not in OPSETS:
        raise OptionError(f"there is no opset {opset}.", f"choose one of {OPSETS[0]} to {OPSETS[-1]}.")
    given = (args,) if isinstance(args, torch.Tensor) else tuple(args)
    title = type(module).__name__
    program = module if isinstance(module, torch.export.ExportedProgram) else None
    if program is None:
        assert isinstance(module, nn.Module)
        program = _trace(module, given, dict(kwargs or {}), dynamic_shapes, title)
    names = {"input_names": list(input_names) or None, "output_names": list(output_names) or None}
    proto = finish(translate(program, title, **names, dynamic_shapes=dynamic_shapes, opset_version=opset))
    if path is not None:
        write_file(Path(path), proto.SerializeToString(), "path")
    return proto


def _trace(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, title: str
) -> torch.export.ExportedProgram:
    if module.training:
        raise InputError(f"{title} is in training mode.", "call .eval() first.")
    copied = copy.deepcopy(module).requires_grad_(False)
    try:
        with quiet(), torch.no_grad():
            call_watched(copied, *args, **kwargs)  # what a first call keeps is there when it is traced
            return rewrite(export_free(copied, args, kwargs, shapes, title))
    except EvmDeployError:
        raise
    except Exception as error:
        raise explain(error, copied, title) from error

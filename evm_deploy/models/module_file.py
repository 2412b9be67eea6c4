"""A module that a function of the user's own file builds: `net.py:build`. This runs the file."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from evm_deploy.compat import without_cuda
from evm_deploy.compat.replacements import replace_functions
from evm_deploy.errors import InputError, OptionError, first_line
from evm_deploy.models.location import locate_error
from evm_deploy.models.module_weights import load_weights


@contextlib.contextmanager
def build_module(named: str, checkpoint: Path | None = None, key: str | None = None) -> Iterator[nn.Module]:
    """What the function returns that `named` names, as file.py:function; it is called without arguments.

    checkpoint, key: a file with its weights, as for `load_weights`. Within the block, as while the file runs, what
    needs CUDA is supplied (`evm_deploy.compat`).
    Runs the file, with its folder first on the path of imports, as `python file.py` has it. Raises OptionError: it is
    not written so; InputError: no such file or function, an exception within, or something else than a module;
    CheckpointError.
    """
    with without_cuda():
        module = _run_function(named)
        if checkpoint is not None:
            load_weights(module, checkpoint, key)
        yield module


def _run_function(named: str) -> nn.Module:
    file, _, function = named.rpartition(":")
    if not file or not function.isidentifier():
        raise OptionError(f"--module {named!r} names no function of a file.", "write it as file.py:function.")
    path = Path(file).resolve()
    if not path.is_file():
        raise InputError(f"{file} is not a file.", "write --module as file.py:function.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file.", "name one that ends in .py.")
    code = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, code)  # its dataclasses and pickles look it up there
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(code)
        replace_functions(code)
        if not callable(getattr(code, function, None)):
            raise InputError(f"{file} has no function {function}.", "write --module as file.py:function.")
        module = getattr(code, function)()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        at = f"{path.name}:{error.lineno}" if isinstance(error, SyntaxError) else locate_error(error).strip(" ()")
        what = f"{at or file}: {type(error).__name__}: {first_line(error)}"
        raise InputError(f"{what}.", f"correct {file}, which is run to build the module.") from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(module, nn.Module):
        what = f"{function} of {file} returns {type(module).__name__}, no torch.nn.Module."
        raise InputError(what, "let it build and return the module.")
    return module

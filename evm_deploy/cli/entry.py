"""Runs a command line, and turns every failure into a line or two and an exit code.

Exit codes: 0 done; 1 a check failed; 2 wrong input or a missing tool; 130 interrupted; 141 nobody reads our
stdout; 70 a fault of evm-deploy. With --json a failure is an object on stdout as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from evm_deploy import console
from evm_deploy.cli import benchmark, bundles, doctor, evaluate, export, package, profile, quantize  # noqa: F401  # each joins
from evm_deploy.cli.app import app, print_json
from evm_deploy.errors import EvmDeployError

# As the work goes: --help lists them so.
COMMANDS = "export verify predict inspect quantize evaluate benchmark profile report package doctor".split()
app.registered_commands.sort(key=lambda each: COMMANDS.index(str(each.name or each.callback.__name__)))  # type: ignore[union-attr]
INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell says of a program that the signal ended: neither passed nor failed
FAULT = 70
TORCH_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # torch makes this folder when it is imported
# typer has carried its own click since 0.26; through its public exception this is the right class in both.
UsageError: type[Any] = typer.BadParameter.__bases__[0]
NO_MEMORY = ("cannot allocate memory", "can't allocate memory", "bad_alloc", "failed to allocate", "failed to map")


@dataclass(frozen=True)
class Failure:
    """How a command ended that did not do what it was asked."""

    cause: str
    fix: str
    exit_code: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; every failure is a line or two on stderr."""
    console.open_streams()
    _end_as_on_ctrl_c()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or onnxruntime leaves an identifier in the home folder
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _contain_libraries():
            code = app(arguments or ["--help"], prog_name="evm-deploy", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (BrokenPipeError, SystemExit):  # our reader, say `head`, has gone; typer makes that a SystemExit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except BaseException as error:
        failure = _explain(error)
        try:
            _report(failure, json="--json" in arguments)
        except MemoryError:  # what is left does not suffice to print it in the usual way
            os.write(2, b"error: there is not enough memory for this.\n")
        return failure.exit_code


@contextlib.contextmanager
def _contain_libraries() -> Iterator[None]:
    """Keeps what libraries say and leave behind from the user: their warnings, and torch's folder in TMPDIR."""
    with contextlib.ExitStack() as stack:
        if not (sys.warnoptions or os.environ.get("EVM_DEPLOY_DEBUG")):
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        if TORCH_FOLDER not in os.environ:
            with contextlib.suppress(OSError):  # of a full disk: what needs the folder will say so
                folder = tempfile.TemporaryDirectory(prefix="evm-deploy-", ignore_cleanup_errors=True)
                os.environ[TORCH_FOLDER] = stack.enter_context(folder)
                stack.callback(os.environ.pop, TORCH_FOLDER, None)
        yield


def _end_as_on_ctrl_c() -> None:
    """Has the other polite ways to end a program remove what is half written, unless somebody handles them."""
    for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, signal.default_int_handler)


def _explain(error: BaseException) -> Failure:
    """What any exception means to the user."""
    if _is_out_of_memory(error):
        return Failure("there is not enough memory for this.", "use a smaller --image-size, or a larger machine.", 2)
    if isinstance(error, EvmDeployError):
        return Failure(error.cause, error.fix, error.exit_code)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        exec("")  # `python -m` ends by the signal, not by our exit code, where the last code of a text was interrupted
        return Failure("interrupted", "run it again.", INTERRUPTED)
    if isinstance(error, UsageError):
        return Failure(*_explain_usage(error), 2)
    if isinstance(error, OSError):  # a file that may not be read, a name too long, a full disk under stdout
        where = f"{str(error.filename)[:300]}: " if error.filename is not None else ""
        fix = "check the path, its permissions and the space there."
        return Failure(f"{where}{error.strerror or error}.", fix, 2)
    fix = "this is a fault of evm-deploy: report it with the output of EVM_DEPLOY_DEBUG=1."
    return Failure(f"unexpected {type(error).__name__}: {error}", fix, FAULT)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the system gave no memory: libraries say it in exceptions of every type, also on being imported."""
    if error is None or isinstance(error, MemoryError):
        return error is not None
    if isinstance(error, EvmDeployError):
        return _is_out_of_memory(error.__cause__)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error).lower() for words in NO_MEMORY)


def _explain_usage(error: Any) -> tuple[str, str]:
    context = error.ctx
    command = context.command_path if context is not None else "evm-deploy"
    near = getattr(error, "possibilities", None)
    cause = error.message if near else error.format_message()
    return cause, (f"did you mean {near[0]}? " if near else "") + f"see {command} --help."


def _report(failure: Failure, json: bool) -> None:
    """Prints the failure on stderr, and with `json` as an object on stdout."""
    if os.environ.get("EVM_DEPLOY_DEBUG"):
        traceback.print_exc()
    with contextlib.suppress(OSError):  # of a full or closed stream: the exit code says it still
        if failure.exit_code == INTERRUPTED:
            print(failure.cause, file=sys.stderr)
        else:
            console.print_error(failure.cause, failure.fix)
    with contextlib.suppress(OSError):
        if json:
            print_json(error=failure)
            sys.stdout.flush()

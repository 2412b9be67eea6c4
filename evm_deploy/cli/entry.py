"""Runs a command line, and turns every failure into a line or two and an exit code.

Exit codes: 0 done; 1 a check failed; 2 wrong input or a missing tool; 130 interrupted; 141 nobody reads our
stdout; 70 a fault of evm-deploy.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import Any

import typer

from evm_deploy import console
from evm_deploy.cli import benchmark, bundles, doctor, evaluate, export, package, profile, quantize  # noqa: F401  # each joins
from evm_deploy.cli.app import app
from evm_deploy.errors import EvmDeployError

INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell says of a program that the signal ended: neither passed nor failed
FAULT = 70
# typer has carried its own click since 0.26; through its public exception this is the right class in both.
UsageError: type[Any] = typer.BadParameter.__bases__[0]


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code; every failure is a line or two on stderr."""
    console.open_streams()
    _end_as_on_ctrl_c()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or onnxruntime leaves an identifier in the home folder
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        code = app(arguments or ["--help"], prog_name="evm-deploy", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except EvmDeployError as error:
        return _report_failure(error.cause, error.fix, error.exit_code)
    except UsageError as error:
        return _report_failure(*_explain_usage(error), 2)
    except (BrokenPipeError, SystemExit):  # our reader, say `head`, has gone; typer makes that a SystemExit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:  # a file that may not be read, a name too long, a full disk under stdout
        where = f"{str(error.filename)[:300]}: " if error.filename is not None else ""
        return _report_failure(
            f"{where}{error.strerror or error}.", "check the path, its permissions and the space there.", 2
        )
    except MemoryError:
        return _report_failure(
            "there is not enough memory for this.", "use a smaller --image-size, or a larger machine.", 2
        )
    except Exception as error:
        cause = f"unexpected {type(error).__name__}: {error}"
        return _report_failure(
            cause, "this is a fault of evm-deploy: report it with the output of EVM_DEPLOY_DEBUG=1.", FAULT
        )


def _end_as_on_ctrl_c() -> None:
    """Has the other polite ways to end a program remove what is half written, unless somebody handles them."""
    for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, signal.default_int_handler)


def _explain_usage(error: Any) -> tuple[str, str]:
    context = error.ctx
    command = context.command_path if context is not None else "evm-deploy"
    near = getattr(error, "possibilities", None)
    cause = error.message if near else error.format_message()
    return cause, (f"did you mean {near[0]}? " if near else "") + f"see {command} --help."


def _report_failure(cause: str, fix: str, code: int) -> int:
    if os.environ.get("EVM_DEPLOY_DEBUG"):
        traceback.print_exc()
    with contextlib.suppress(OSError):  # of a full or closed stderr: the exit code says it still
        console.print_error(cause, fix)
    return code

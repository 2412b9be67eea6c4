"""Turns error messages of ssh and the other machine into causes with fixes."""

import re
from typing import Any

from evm_deploy.errors import DeviceError

OLD_PYTHON = "needs Python 3.8, this is"  # the other side prints this before it ends

_TRY = "try `ssh {host}` yourself; evm-deploy connects in the same way, with your ~/.ssh/config."
# A pattern in the output of ssh, the cause, and the fix. The first matching row counts.
_ENDED = (
    (r"Could not resolve hostname", "there is no host {host}", "correct the name, or add it to ~/.ssh/config."),
    (r"Connection refused", "{host} refuses ssh connections", "start sshd there, or correct the port."),
    (
        r"(?:Connection|Operation) timed out|No route to host|Network is unreachable|Host is down",
        "{host} cannot be reached",
        "check that it (or the jump host) is switched on and in the same network.",
    ),
    (
        r"Host key verification failed|IDENTIFICATION HAS CHANGED",
        "you have not accepted the host key of {host}",
        "run `ssh {host}` once and accept it, if it is the right machine.",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "{host} does not let you in",
        "run `ssh-copy-id {host}`, or `ssh-add` if your key has a passphrase: evm-deploy cannot type a password.",
    ),
    (
        r"[Cc]ommand not found|exit code 12[67]",
        "{host} has no such Python ({last})",
        "install Python 3.8 or newer there (apt install python3), or name one with EVM_DEPLOY_REMOTE_PYTHON.",
    ),
    (OLD_PYTHON, "the Python of {host} is too old ({last})", "name a newer one with EVM_DEPLOY_REMOTE_PYTHON."),
    (r"Bad configuration option|Bad owner or permissions on", "ssh does not accept its configuration ({last})", _TRY),
)
_THERE = {
    "disk": ("the disk of {host} is full ({text})", "free some space there, or set TMPDIR there to another folder."),
    "hash": (
        "{text} changed on the way to {host} (its sha256 differs)",
        "try again; if it repeats, check the machine.",
    ),
    "system": ("{host} cannot store the files ({text})", "see what it says."),
    "agent": ("measuring on {host} failed: {text}", "see what it says."),
    "garbage": ("{host} sends answers that are not valid", _TRY),
}


def explain_end(code: int | None, said: str, host: str) -> DeviceError:
    """The error for ssh's end. code: its exit code; said: its output on stderr."""
    last = _shorten(next((line for line in reversed(said.splitlines()) if line.strip()), "")).rstrip(". ")
    for pattern, cause, fix in _ENDED:
        if re.search(pattern, f"{said}\nexit code {code}"):
            return DeviceError(cause.format(host=host, last=last) + ".", fix.format(host=host))
    how = last or f"ssh ended with {code}"
    return DeviceError(f"the connection to {host} is lost ({how}).", _TRY.format(host=host))


def explain_failure(answer: dict[str, Any], host: str) -> DeviceError:
    """The error for a failure that the other side reports."""
    cause, fix = _THERE.get(str(answer["error"]), _THERE["garbage"])
    text = _shorten(str(answer.get("text", ""))).rstrip(". ")
    return DeviceError(cause.format(host=host, text=text) + ".", fix.format(host=host))


def explain_silence(host: str, seconds: float) -> DeviceError:
    """The error for a machine without a sign of life."""
    return DeviceError(f"{host} gave no sign of life for {seconds:g} s.", "raise --timeout if it is still working.")


def explain_garbage(host: str) -> DeviceError:
    """The error for an answer that is not valid."""
    return explain_failure({"error": "garbage"}, host)


def check_object(value: Any, host: str) -> dict[str, Any]:
    """Checks that `value` is an object. Raises DeviceError."""
    if not isinstance(value, dict):
        raise explain_garbage(host)
    return value


def _shorten(text: str) -> str:
    """The end of a program's output, on one line."""
    return " ".join(text.split())[-400:]

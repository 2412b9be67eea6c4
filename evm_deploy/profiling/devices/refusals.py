"""What ssh and the other machine say when something is wrong, as causes with their fixes."""

import re
from typing import Any

from evm_deploy.errors import DeviceError

OLD_PYTHON = "needs Python 3.8, this is"  # what the other side prints before it ends

_TRY = "try `ssh {host}` yourself: what works there works here, in your ~/.ssh/config too."
# What is looked for in what ssh printed, the cause, and the fix. The first row that fits counts.
_ENDED = (
    (r"Could not resolve hostname", "there is no host {host}", "correct the name, or add it to ~/.ssh/config."),
    (r"Connection refused", "{host} refuses ssh connections", "start sshd there, or correct the port."),
    (
        r"(?:Connection|Operation) timed out|No route to host|Network is unreachable|Host is down",
        "{host} cannot be reached",
        "see that it is switched on and in the same network, or that the jump host is.",
    ),
    (
        r"Host key verification failed|IDENTIFICATION HAS CHANGED",
        "the host key of {host} is not one that you have accepted",
        "run `ssh {host}` once and accept it, if it is the machine that you mean.",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "{host} does not let you in",
        "run `ssh-copy-id {host}`, or `ssh-add` where your key has a passphrase: nobody is here to type a password.",
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
    "hash": ("{text} arrived changed at {host} (its sha256 differs)", "try again; if it stays so, check the machine."),
    "system": ("{host} cannot take the files ({text})", "see what it says."),
    "agent": ("measuring on {host} failed: {text}", "see what it says."),
    "garbage": ("{host} answers what cannot be understood", _TRY),
}


def ended(code: int | None, said: str, host: str) -> DeviceError:
    """Why ssh has ended. code: its exit code; said: what it printed on stderr."""
    last = _plain(next((line for line in reversed(said.splitlines()) if line.strip()), "")).rstrip(". ")
    for pattern, cause, fix in _ENDED:
        if re.search(pattern, f"{said}\nexit code {code}"):
            return DeviceError(cause.format(host=host, last=last) + ".", fix.format(host=host))
    how = last or f"ssh ended with {code}"
    return DeviceError(f"the connection to {host} is lost ({how}).", _TRY.format(host=host))


def there(answer: dict[str, Any], host: str) -> DeviceError:
    """What the other side could not do."""
    cause, fix = _THERE.get(str(answer["error"]), _THERE["garbage"])
    text = _plain(str(answer.get("text", ""))).rstrip(". ")
    return DeviceError(cause.format(host=host, text=text) + ".", fix.format(host=host))


def silent(host: str, seconds: float) -> DeviceError:
    """No sign of life."""
    return DeviceError(f"{host} gave no sign of life for {seconds:g} s.", "raise --timeout, if it is at work.")


def garbage(host: str) -> DeviceError:
    """An answer that is none."""
    return there({"error": "garbage"}, host)


def checked(value: Any, host: str) -> dict[str, Any]:
    """`value`, which has to be an object. Raises DeviceError."""
    if not isinstance(value, dict):
        raise garbage(host)
    return value


def _plain(text: str) -> str:
    """The end of what somebody printed, on one line."""
    return " ".join(text.split())[-400:]

"""The table of devices on which a bundle can be measured: a row for each kind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device: how to write it in `--device`, and the module that measures on it."""

    syntax: str
    module: str
    help: str


DEVICES: dict[str, DeviceKind] = {
    "local": DeviceKind("local", "evm_deploy.profiling.devices.local", "this machine"),
    "ssh": DeviceKind(
        "ssh://[user@]host[:port]", "evm_deploy.profiling.devices.ssh", "a board or a server, over OpenSSH"
    ),
    "adb": DeviceKind("adb[:serial]", "evm_deploy.profiling.devices.adb", "an Android phone"),
    "browser": DeviceKind(
        "browser", "evm_deploy.profiling.devices.browser", "any phone or computer that opens a web page"
    ),
}

"""What measures on a stand-in phone: the benchmark app (`PHONE REQUEST`), or a runner (`--runner --profile ...`).

It measures nothing, and tells a profile of the bundles that it was given, with samples that it makes up.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FILES = "sdcard/Android/data/org.evmdeploy.benchmark/files"


def profile(rows: list[dict[str, Any]], iterations: int, kind: str) -> dict[str, Any]:
    """A document of the schema."""
    results = [
        {
            "runtime": "onnxruntime",
            "provider": "CPUExecutionProvider",
            "target": "onnx",
            "precision": "fp32",
            "size_bytes": 1,
            "samples_ms": [5.0 + 0.01 * index for index in range(iterations)],
            **row,
        }
        for row in rows
    ]
    return {
        "schema": "evm-deploy/profile",
        "version": 1,
        "device": {"kind": kind, "name": "inside", "machine": "aarch64"},
        "conditions": {"power": {"power save": "off"}},
        "method": {"iterations": iterations, "seconds": None, "warm_up": 1, "interleaved": True},
        "results": results,
        "created": "2026-01-01T00:00:00Z",
        "tool": "stand-in",
        "warnings": ["made up"],
    }


def app(phone: Path, name: str) -> None:
    """Does what `request.json` says, or what `app.json` of the phone says instead."""
    folder = phone / FILES / name
    asked = json.loads((folder / "request.json").read_text())
    behaviour = json.loads((phone / "app.json").read_text())
    if "crash" in behaviour:
        (phone / "crash").write_text(behaviour["crash"])
        return
    time.sleep(behaviour.get("seconds", 0))
    if "error" in behaviour:
        (folder / "error.txt").write_text(behaviour["error"])
        return
    rows = []
    for each in asked["contenders"]:
        digest = hashlib.sha256((folder / each["folder"] / "manifest.json").read_bytes()).hexdigest()
        assert digest == each["sha256"]
        rows.append({"name": each["name"], "bundle": each["bundle"], "sha256": digest})
    text = behaviour.get("answer") or json.dumps(profile(rows, asked["options"]["iterations"], "adb"))
    (folder / "profile.json.tmp").write_text(text)
    (folder / "profile.json.tmp").replace(folder / "profile.json")


def runner(arguments: list[str]) -> None:
    """Prints the profile of the bundles that are named."""
    assert arguments[0] == "--profile"
    rest = arguments[1:]
    last = rest.pop(rest.index("--portable")) if "--portable" in rest else ""
    options: dict[str, str] = {}
    while rest[0].startswith("--"):
        options[rest[0]] = rest[1]
        rest = rest[2:]
    digests = {name: hashlib.sha256((Path(name) / "manifest.json").read_bytes()).hexdigest() for name in rest}
    rows: list[dict[str, Any]] = [{"name": name, "bundle": name, "sha256": digest} for name, digest in digests.items()]
    if Path("broken").exists():  # what a runner knows of a bundle that it cannot open
        rows[0].update(error="it is broken", samples_ms=[], sha256=64 * "0", target="?", precision="?")
    found = profile(rows, int(options["--iterations"]), "local")
    variables = [os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "ONNXRUNTIME_LIBRARY", "EVM_OPS_LIBRARY")]
    found["tool"] = " ".join([*variables, *sorted(path.name for path in Path().glob("*.so")), last])
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "--runner":
        runner(sys.argv[2:])
    else:
        app(Path(sys.argv[1]), sys.argv[2])

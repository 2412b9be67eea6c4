"""An iOS package: a Swift package with the networks, a typed API, tests of the golden pairs and a benchmark."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.packaging.contents import Contents, NamedBundle, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.reserved import SWIFT_MEMBERS, SWIFT_MODULES
from evm_deploy.packaging.templates import GOLDEN_LIMITS, fill
from evm_deploy.packaging.vectors import write_vectors
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import PARITY, find_tolerance

TOOLS = "5.9"  # the version of Swift's package manager that the package is written for
LEAST_IOS = 16  # the first with all functions that the sources use
_MACOS_BEHIND = 3  # macOS 13 came with iOS 16, and so on
ONNXRUNTIME, ONNXRUNTIME_URL = "1.24.2", "https://github.com/microsoft/onnxruntime-swift-package-manager"
_LEAST_MACOS_OF_ONNXRUNTIME = 14
_TARGET = re.compile(r"(iOS|macOS)([0-9]{2})")

_README = """\
```swift
// Package.swift: .package(path: "PATH/TO/THIS/FOLDER"), and in your target .product(name: "{name}", package: "FOLDER")
import {name}
let runner = try await Model.{model}.open()    // once; `units:` selects the processors that Core ML may use
{call}
```
{steps}
The package runs on iOS {ios}, macOS {macos} and newer. In Xcode: File, Add Package Dependencies, Add Local. The
networks in the package are as they were exported, and each file is compared with its sha256 when it is opened. Core ML
compiles a network on the device when it is first opened, and the app's caches keep the result. An image is prepared
bit for bit as the exporter does it, in its own colours. Of a file (`contentsOf:`), PNG is read by the package, and JPEG
by the system, whose decoder may round otherwise; other files are refused. A `CGImage` is refused where colours were
lost before: with other than 8 bits a channel, in other than grey or RGB colours, or translucent and premultiplied.

- `swift test`, or Product, Test in Xcode, on a Mac or a phone, tests the golden pair of every network, on the CPU and
  on the processors that Core ML chooses, and the preparation of images. It also keeps a profile with the test results.
- `swift run -c release {name}Benchmark > profile.json` measures on a Mac; `evm-deploy report profile.json` reads it.
  In an app, `Benchmark.profile()` returns the same profile.
"""
_CLASSIFY = """\
let best = try await runner.classify(image)  // a CGImage, UIImage, camera frame, or contentsOf: file
print(best[0].label, best[0].probability)"""
_FIND = """\
let found = try await runner.find(image)  // a CGImage, UIImage, camera frame, or contentsOf: file; in its pixels
for thing in found.things { print(thing.label, thing.score, thing.box) }  // of a segmenter: classes, and their map
let drawn = try found.draw(over: upright)  // a copy of the upright CGImage under them"""
_STEPS = f"""
Core ML runs these detectors up to their heads. What follows, a small graph beside each (`last_steps.onnx`), runs on
onnxruntime {ONNXRUNTIME}, which Swift's package manager fetches from {ONNXRUNTIME_URL}.
"""
_NOT_COMPILED = (
    "The machine that wrote this package has no Xcode: its Swift was only parsed, not compiled. Run the tests above "
    "before you rely on it."
)
_ONE_SIZE = "{name}: the package has all image sizes of the network, but its Swift uses only the first, {h}x{w}."


def write(bundles: Sequence[NamedBundle], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the Swift package into `folder`. See `packaging.contents`.

    Raises OptionError: the name is reserved in Swift; BundleError: an unknown deployment target.
    """
    if options.name in SWIFT_MODULES:
        raise OptionError(f"--name {options.name!r} is reserved in Swift.", "choose another --name.")
    ios = max(LEAST_IOS, *(_find_ios(one.bundle) for one in bundles))
    follows = any(one.bundle.manifest.last_steps is not None for one in bundles)
    macos = max(ios - _MACOS_BEHIND, _LEAST_MACOS_OF_ONNXRUNTIME if follows else 0)
    package = ONNXRUNTIME_URL.rpartition("/")[2]
    values = {
        "NAME": options.name,
        "IOS": f"{ios}.0",
        "MACOS": f"{macos}.0",
        "DEPENDENCIES": f'.package(url: "{ONNXRUNTIME_URL}", exact: "{ONNXRUNTIME}")' if follows else "",
        "PRODUCTS": f'.product(name: "onnxruntime", package: "{package}")' if follows else "",
        **GOLDEN_LIMITS,
        "CASES": "\n".join(f'    case `{make_case(one.name)}` = "{one.name}"' for one in bundles),
        "TOLERANCES": "\n".join(
            f"        .`{make_case(one.name)}`: {find_tolerance(one.bundle.manifest)!r}," for one in bundles
        ),
        "FP16": repr(PARITY["fp16"]),
        "VERSION": importlib.metadata.version("evm-deploy"),
    }
    sources, tests = f"Sources/{options.name}", f"Tests/{options.name}Tests"
    moved = {"Sources/Library/": f"{sources}/", "Sources/Benchmark/": f"{sources}Benchmark/", "Tests/": f"{tests}/"}
    fill("ios", folder, values, moved)
    write_vectors(folder / tests / "Vectors")
    for one in bundles:
        copy_bundle(one.bundle, folder / sources / "Models" / one.name)
    call = _CLASSIFY if find_task(bundles[0].bundle.manifest.task).locate is None else _FIND
    readme = _README.format(
        name=options.name,
        model=make_case(bundles[0].name),
        ios=ios,
        macos=macos,
        call=call,
        steps=_STEPS if follows else "",
    )
    return Contents(
        models={one.name: f"{sources}/Models/{one.name}" for one in bundles},
        readme=readme,
        licences=("onnxruntime-swift",) if follows else (),
        notes=(_NOT_COMPILED, *(_describe_size(one) for one in bundles if one.bundle.manifest.more_sizes)),
        tools={"Swift tools": TOOLS, **({"onnxruntime": ONNXRUNTIME} if follows else {})},
    )


def make_case(name: str) -> str:
    """The name of the model `name` in Swift, which may need backquotes."""
    return f"{name}_" if name in SWIFT_MEMBERS else name


def _find_ios(bundle: Bundle) -> int:
    """The oldest version of iOS that runs the bundle."""
    target = (bundle.manifest.build or {}).get("deployment_target", f"iOS{LEAST_IOS}")
    match = _TARGET.fullmatch(target) if isinstance(target, str) else None
    if match is None:
        raise BundleError(f"{bundle.path} is for {target!r}, an unknown deployment target.", "use a newer evm-deploy.")
    return int(match[2]) + (_MACOS_BEHIND if match[1] == "macOS" else 0)


def _describe_size(one: NamedBundle) -> str:
    h, w = one.bundle.manifest.preprocessing.image_size
    return _ONE_SIZE.format(name=one.name, h=h, w=w)

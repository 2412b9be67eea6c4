"""An Android package: a Gradle library with the networks and a Kotlin API, and a benchmark app."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.errors import OptionError
from evm_deploy.packaging.contents import Contents, NamedBundle, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.reserved import KOTLIN_PACKAGES
from evm_deploy.packaging.sources import copy_native_sources
from evm_deploy.packaging.templates import GOLDEN_LIMITS, fill
from evm_deploy.packaging.vectors import write_vectors
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import find_tolerance

VERSIONS = {"onnxruntime-android": "1.24.3", "Android Gradle plugin": "8.7.3", "Kotlin": "2.0.21"}
MIN_SDK, COMPILE_SDK = 24, 35
ASSETS = "model/src/main/assets/evm"

_README = """\
```kotlin
// settings.gradle.kts of your app: include(":model"); project(":model").projectDir = file("PATH/TO/THIS/model")
// build.gradle.kts of your app: dependencies {{ implementation(project(":model")) }}
import {package}.*
val runner = Model.{model}.open(context)      // once, off the main thread; close it at the end
{call}
```

Your version catalogue needs the entries of `gradle/libs.versions.toml`. The library runs on Android API {min_sdk} and
newer, on arm64-v8a and x86_64. It prepares an image bit for bit as the exporter does (`Pixels`, `Preprocessing`). Of
an image file, PNG is read by the library, and JPEG by Android, whose decoder may round otherwise; other files are
refused. `{name}` takes a `Bitmap` as well, with the EXIF orientation as an argument, because `BitmapFactory` ignores
it; one that is not ARGB_8888, or translucent and premultiplied, has lost colours and is refused. Every file of a
network is compared with the sha256 in its manifest when it is read. `Operators.available` tells whether the app has
the kernels of the scan for this processor; without them the results are the same, but slower.

- `gradle :model:connectedAndroidTest` runs the golden pair of every network on a phone, with and without our kernels.
- `gradle :model:test` compares the preparation of images with the exporter's, on your machine.
- `gradle :benchmark:assembleRelease` builds the benchmark app. `evm-deploy profile BUNDLE --device adb --app APK`
  measures with it. If you start it by hand, it measures the networks inside it.

The build needs Gradle 8.9 or newer, Java 17, and the Android SDK with its NDK and CMake. The package has no Gradle
wrapper; `gradle wrapper` adds it.
"""
_CLASSIFY = (
    "val best = runner.classify(stream)  // of an image file: [Prediction(label=..., index=..., probability=...)]"
)
_FIND = """\
val found = runner.find(stream)  // of an image file, in its pixels: its things, or its classes and their map
val drawn = found.draw(bitmap)  // a copy of the upright image under them"""
_NOT_COMPILED = (
    "The machine that wrote this package has no Android tools: its Kotlin was neither compiled for Android nor run on "
    "a phone. Run the tests above before you rely on it."
)


def write(bundles: Sequence[NamedBundle], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the Gradle project into `folder`. See `packaging.contents`.

    Raises OptionError: the name cannot be a Kotlin package; MissingToolError: no sources of the operator library.
    """
    package = _make_package_name(options.name)
    copy_native_sources(folder / "model/src/main/cpp")
    values = {
        "NAME": options.name,
        "PACKAGE": package,
        "MODELS": "\n".join(map(_make_entry, bundles)),
        "VERSION": importlib.metadata.version("evm-deploy"),
        "MIN_SDK": str(MIN_SDK),
        "COMPILE_SDK": str(COMPILE_SDK),
        "ONNXRUNTIME": VERSIONS["onnxruntime-android"],
        "AGP": VERSIONS["Android Gradle plugin"],
        "KOTLIN": VERSIONS["Kotlin"],
        **GOLDEN_LIMITS,
    }
    fill("android", folder, values)
    write_vectors(folder / "model/src/test/vectors")
    for one in bundles:
        copy_bundle(one.bundle, folder / ASSETS / one.name)
    first = make_constant(bundles[0].name)
    finds = find_task(bundles[0].bundle.manifest.task).locate is not None
    name, call = ("find", _FIND) if finds else ("classify", _CLASSIFY)
    return Contents(
        models={one.name: f"{ASSETS}/{one.name}" for one in bundles},
        readme=_README.format(package=package, model=first, min_sdk=MIN_SDK, name=name, call=call),
        licences=("kotlin", "onnxruntime-android"),
        notes=(_NOT_COMPILED,),
        tools=VERSIONS,
    )


def make_constant(name: str) -> str:
    """The name of the model `name` in Kotlin."""
    return name.upper()


def _make_package_name(name: str) -> str:
    if name.lower() in KOTLIN_PACKAGES:
        raise OptionError(f"--name {name!r} cannot be the name of a Kotlin package.", "choose another --name.")
    return f"org.evmdeploy.{name.lower()}"


def _make_entry(one: NamedBundle) -> str:
    return f'    {make_constant(one.name)}("{one.name}", {find_tolerance(one.bundle.manifest)!r}),'

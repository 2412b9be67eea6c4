"""linux and jetson: C++ and Python loaders beside the models, with the operator library for both processors."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.exporters.tensorrt.script import SCRIPT, write_script
from evm_deploy.exporters.tensorrt.shapes import profile
from evm_deploy.packaging import cross
from evm_deploy.packaging.contents import Contents, Named, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.sources import copy_native_sources
from evm_deploy.packaging.templates import fill
from evm_deploy.scan import native
from evm_deploy.tolerances import PARITY, ROUNDED

_MACHINES = {"x86_64": "x86-64", "aarch64": "aarch64"}
_ENGINES = "engines"

_README = """\
```cpp
#include <evm_deploy.hpp>

evm::Model model("models/{name}");
for (const evm::Result& best : model.classify(evm::read_image("image.jpg"), 3))
  std::printf("%.3f %s\\n", best.probability, best.label.c_str());
```

```sh
cmake -S . -B ../build && cmake --build ../build
../build/evm_run models/{name} image.jpg     # --golden models/* runs the golden pairs, --profile models/* takes times
```

In a CMake project of yours: `add_subdirectory({project})` and `target_link_libraries(app PRIVATE evm_model)`. It takes
GCC 9 or Clang 10, and no headers but its own: onnxruntime (1.17 or newer) is loaded while the program runs, from
`-DONNXRUNTIME_ROOT=FOLDER` of a release, the loader's places, or Python's package; `ONNXRUNTIME_LIBRARY` names it
otherwise. PNG and JPEG are read where libpng and libjpeg are found (`apt install libpng-dev libjpeg-dev`), PPM always.

In Python (`pip install numpy onnxruntime pillow`):

```python
from evm_model import Model  # python/evm_model.py

for label, probability in Model("models/{name}").classify("image.jpg", top=3):
    print(f"{{probability:.3f}} {{label}}")
```

`sh smoke.sh` runs all golden pairs with both loaders. Both check the sha256 of each file of a model before they use
it, resize as Pillow does, to the bit, and use our operators (`lib/`) for this processor where they are there.
"""
_ENGINE = """
TensorRT: `sh {first} model.engine`, on the board itself, builds an engine with its own trtexec; a script for each model
that TensorRT takes ({scripts}). The loaders here run the ONNX files, on the processor.
"""


def write(bundles: Sequence[Named], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the loaders, the libraries, the models, and for a Jetson the scripts that build engines."""
    values = {
        "NAME": options.name,
        "VERSION": importlib.metadata.version("evm-deploy"),
        "TOLERANCES": ", ".join(f'{{"{name}", {value!r}}}' for name, value in (PARITY | ROUNDED).items()),
        "TOLERANCES_JSON": json.dumps(PARITY | ROUNDED),
    }
    fill("linux", folder, values)
    places = {item.name: f"models/{item.name}" for item in bundles}
    for item in bundles:
        copy_bundle(item.bundle, folder / places[item.name])
    copy_native_sources(folder / "native")
    notes, tools = _libraries(folder / "lib", say)
    readme = _README.format(name=bundles[0].name, project=options.name)
    if options.platform == "jetson":
        scripts, more = _scripts(bundles, folder)
        notes += more
        if scripts:
            readme += _ENGINE.format(first=scripts[0], scripts=", ".join(f"`{script}`" for script in scripts))
    return Contents(places, readme, ("onnxruntime",), tuple(notes), tools)


def _libraries(folder: Path, say: Say) -> tuple[list[str], dict[str, str]]:
    """Writes `linux-<machine>/libevm_ops.so` where it can be had; returns notes on each, and what compiled it."""
    notes: list[str] = []
    tools: dict[str, str] = {}
    for machine, name in _MACHINES.items():
        out = folder / f"linux-{machine}" / "libevm_ops.so"
        here = sys.platform == "linux" and platform.machine() == machine and native.available()
        compiler = cross.version() if machine in cross.MACHINES else None
        if not here and compiler is None:
            how = "install a C++ compiler" if machine not in cross.MACHINES else "pip install ziglang"
            notes.append(
                f"The operator library for {name} is not in this package ({how} where it is made): CMake builds it "
                "from native/ on such a machine; the Python loader runs the portable form, slower."
            )
            continue
        out.parent.mkdir(parents=True)
        if here:
            shutil.copyfile(native.native_library(), out)
        elif compiler is not None:
            say(f"compiling the operator library for {name}: minutes, the first time")
            cross.build(machine, out)
            tools["ziglang"] = compiler
        notes.append(f"The operator library for {name} needs glibc {_glibc(out)} or newer.")
    return notes, tools


def _glibc(library: Path) -> str:
    """The newest version of the C library that `library` names."""
    found = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())}
    return ".".join(map(str, max(found, default=(2, 0))))


def _scripts(bundles: Sequence[Named], folder: Path) -> tuple[list[str], list[str]]:
    """The scripts that build engines, and notes on models that have none."""
    scripts, notes = [], []
    for item in bundles:
        manifest = item.bundle.manifest
        own = f"models/{item.name}/{SCRIPT}"
        if SCRIPT in manifest.files:
            scripts.append(own)
        elif manifest.precision in ROUNDED:
            notes.append(f"TensorRT does not take the integers of {item.name}: quantize a bundle of --target tensorrt.")
        else:
            (folder / _ENGINES).mkdir(exist_ok=True)
            scripts.append(f"{_ENGINES}/{item.name}.sh")
            write_script(folder / scripts[-1], f"../models/{item.name}/{manifest.model_file}", profile(manifest))
    return scripts, notes

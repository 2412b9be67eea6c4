"""Packages for linux and jetson: the models, C++ and Python loaders, the operator library for x86-64 and aarch64."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from evm_deploy import compiling
from evm_deploy.exporters.tensorrt.script import SCRIPT, write_script
from evm_deploy.exporters.tensorrt.shapes import choose_shapes
from evm_deploy.packaging import cross
from evm_deploy.packaging.contents import Contents, NamedBundle, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.sources import copy_native_sources
from evm_deploy.packaging.templates import GOLDEN_LIMITS, fill
from evm_deploy.scan import native
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import FP16_MOST, PARITY, ROUNDED

_MACHINES = {"x86_64": "x86-64", "aarch64": "aarch64"}
_ENGINES = "engines"
_SHARED = {  # copies for the Python loader
    "evm_deploy.decoding": "evm_decoding",
    "evm_deploy.keep_ratio": "evm_keep_ratio",
    "evm_deploy.resizing": "evm_resizing",
    "evm_deploy.showing.answers": "evm_answers",
    "evm_deploy.showing.drawing": "evm_drawing",
    "evm_deploy.showing.findings": "evm_findings",
    "evm_deploy.showing.locating": "evm_locating",
    "evm_deploy.showing.masks": "evm_masks",
    "evm_deploy.tasks.matching": "evm_matching",
}

_README = """\
```cpp
#include <evm_deploy.hpp>

evm::Model model("models/{name}");
{cpp}
```

```sh
cmake -S . -B ../build && cmake --build ../build
../build/evm_run models/{name} image.jpg  # --save FOLDER draws; --golden models/* runs the golden pairs
```

In your CMake project: `add_subdirectory({project})` and `target_link_libraries(app PRIVATE evm_model)`. It needs GCC 9
or Clang 10, and no other headers. The program loads onnxruntime (1.17 or newer) when it starts: from the folder of a
release given with `-DONNXRUNTIME_ROOT=FOLDER`, from the system's library paths, or from the Python package; the
environment variable `ONNXRUNTIME_LIBRARY` names another file. It reads PPM always, and PNG and JPEG if CMake finds
libpng and libjpeg (`apt install libpng-dev libjpeg-dev`).

In Python (`pip install numpy onnxruntime pillow`):

```python
from evm_model import Model  # in the folder python/

model = Model("models/{name}")
{python}
```

The Python loader needs the other files of its folder, and reads what `evm-deploy predict` reads. `sh smoke.sh` runs all
golden pairs with both loaders. Both check the sha256 of each file of a model before they use it and resize images bit
for bit as Pillow does. They use our operators if `lib/` has them for this processor.
"""
_CLASSIFY = {
    "cpp": """\
for (const evm::Result& best : model.classify(evm::read_image("image.jpg"), 3))
  std::printf("%.3f %s\\n", best.probability, best.label.c_str());""",
    "python": """\
for label, probability in model.classify("image.jpg", top=3):
    print(f"{probability:.3f} {label}")""",
}
_FIND = {
    "cpp": """\
const evm::Findings found = model.find(evm::read_image("image.jpg"));
std::printf("%s\\n", evm::to_json(found).c_str());  // with --json evm_run prints the same""",
    "python": """\
findings = model.find(model.decode("image.jpg"))
print(findings.to_dict())  # with --json the program prints the same, and --save FOLDER draws it""",
}
_ENGINE = """
TensorRT: `sh {first} model.engine`, run on the board, builds an engine with the board's trtexec. There is a script for
each model that TensorRT accepts ({scripts}). The loaders in this package run the ONNX files on the CPU. The engine of
a detector ends with what its head gives; `last_steps.onnx` beside its model goes on from there, on onnxruntime.
"""


def write(bundles: Sequence[NamedBundle], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the loaders, the libraries and the models, and for jetson the scripts that build engines."""
    values = {
        "NAME": options.name,
        "VERSION": importlib.metadata.version("evm-deploy"),
        "INTERFACE": native.INTERFACE,
        "TOLERANCES": ", ".join(f'{{"{name}", {value!r}}}' for name, value in (PARITY | ROUNDED).items()),
        "TOLERANCES_JSON": json.dumps(PARITY | ROUNDED),
        "FP16_MOST": repr(FP16_MOST),
        **GOLDEN_LIMITS,
    }
    fill("linux", folder, values)
    _copy_shared(folder / "python")
    places = {item.name: f"models/{item.name}" for item in bundles}
    for item in bundles:
        copy_bundle(item.bundle, folder / places[item.name])
    copy_native_sources(folder / "native")
    notes, tools = _write_libraries(folder / "lib", say)
    first = bundles[0]
    calls = _CLASSIFY if find_task(first.bundle.manifest.task).locate is None else _FIND
    readme = _README.format(name=first.name, project=options.name, **calls)
    if options.platform == "jetson":
        scripts, more = _write_scripts(bundles, folder)
        notes += more
        if scripts:
            readme += _ENGINE.format(first=scripts[0], scripts=", ".join(f"`{script}`" for script in scripts))
    return Contents(places, readme, ("onnxruntime",), tuple(notes), tools)


def _copy_shared(folder: Path) -> None:
    """Copies the modules that the Python loader shares with us, under their names in the package."""
    for module, copy in _SHARED.items():
        place = Path(*module.split(".")[1:]).with_suffix(".py")
        text = (Path(__file__).parents[1] / place).read_text(encoding="utf-8")
        for name, other in _SHARED.items():
            text = text.replace(f"from {name} ", f"from {other} ")
        (folder / f"{copy}.py").write_text(text, encoding="utf-8", newline="\n")


def _write_libraries(folder: Path, say: Say) -> tuple[list[str], dict[str, str]]:
    """Writes `linux-<machine>/libevm_ops.so` for each machine where possible. Returns notes, and compiler versions."""
    notes: list[str] = []
    tools: dict[str, str] = {}
    for machine, name in _MACHINES.items():
        out = folder / f"linux-{machine}" / "libevm_ops.so"
        here = sys.platform == "linux" and platform.machine() == machine and native.available()
        compiler = compiling.find_zig_version() if machine in cross.MACHINES else None
        if not here and compiler is None:
            how = "install a C++ compiler" if machine not in cross.MACHINES else "pip install ziglang"
            notes.append(
                f"The operator library for {name} is not in this package (to add it, {how} and package again). On such "
                "a machine, CMake builds it from native/; the Python loader uses the slower portable form."
            )
            continue
        out.parent.mkdir(parents=True)
        if here:
            shutil.copyfile(native.find_usable_library(), out)
        elif compiler is not None:
            say(f"compiling the operator library for {name} (takes minutes the first time)")
            cross.build_library(machine, out)
            tools["ziglang"] = compiler
        notes.append(f"The operator library for {name} needs glibc {_find_glibc(out)} or newer.")
    return notes, tools


def _find_glibc(library: Path) -> str:
    """The newest version of glibc that `library` requires."""
    found = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())}
    return ".".join(map(str, max(found, default=(2, 0))))


def _write_scripts(bundles: Sequence[NamedBundle], folder: Path) -> tuple[list[str], list[str]]:
    """Writes the scripts that build engines. Returns their names, and notes on models without a script."""
    scripts, notes = [], []
    for item in bundles:
        manifest = item.bundle.manifest
        own = f"models/{item.name}/{SCRIPT}"
        if SCRIPT in manifest.files:
            scripts.append(own)
        elif manifest.precision in ROUNDED:
            notes.append(
                f"TensorRT does not accept the INT8 form of {item.name}: quantize a bundle of --target tensorrt."
            )
        elif find_task(manifest.task).empty_outputs:
            notes.append(f"TensorRT lacks the operators of {item.name}: export it with --target tensorrt.")
        elif not all(isinstance(side, int) for side in manifest.inputs[0].shape[1:]):
            notes.append(f"{item.name} is for images of any size, and an engine for one: export it without that.")
        else:
            (folder / _ENGINES).mkdir(exist_ok=True)
            scripts.append(f"{_ENGINES}/{item.name}.sh")
            write_script(folder / scripts[-1], f"../models/{item.name}/{manifest.model_file}", choose_shapes(manifest))
    return scripts, notes

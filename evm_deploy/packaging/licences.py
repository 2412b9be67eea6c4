"""The licence and owner of every component that is in a package or that its build fetches."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Licence:
    """The licence of one component."""

    component: str
    spdx: str  # the SPDX identifier; the text is in `texts/<spdx>.txt`
    copyright: str
    how: str  # whether it is in the package, or fetched when the package is built or run


# fmt: off
LICENCES = {
    "evm-deploy": Licence("evm-deploy: loaders, kernels, build files", "Apache-2.0", "The authors of evm-deploy",
                          "in this package"),
    "onnxruntime": Licence("ONNX Runtime", "MIT", "Copyright (c) Microsoft Corporation",
                           "not in this package: installed beside it"),
    "onnxruntime-web": Licence("ONNX Runtime Web", "MIT", "Copyright (c) Microsoft Corporation", "in this package"),
    "onnxruntime-android": Licence("ONNX Runtime for Android", "MIT", "Copyright (c) Microsoft Corporation",
                                   "not in this package: fetched by Gradle"),
    "onnxruntime-swift": Licence("ONNX Runtime for Swift", "MIT", "Copyright (c) Microsoft Corporation",
                                 "not in this package: fetched by Swift's package manager"),
    "kotlin": Licence("Kotlin's standard library", "Apache-2.0", "Copyright JetBrains s.r.o. and contributors",
                      "not in this package: fetched by Gradle"),
}
# fmt: on
_WEIGHTS = "The weights, the labels and the samples of the models belong to those who trained and exported them."


def write_licences(folder: Path, keys: Iterable[str]) -> tuple[str, ...]:
    """Writes NOTICE and LICENSES/ for evm-deploy and the components `keys`. Returns their SPDX identifiers, sorted."""
    rows = [LICENCES[key] for key in dict.fromkeys(("evm-deploy", *sorted(keys)))]
    parts = [
        f"{row.component}\n    {row.copyright}\n    {row.spdx}, LICENSES/{row.spdx}.txt; {row.how}\n" for row in rows
    ]
    (folder / "NOTICE").write_text("\n".join([*parts, _WEIGHTS + "\n"]), encoding="utf-8", newline="\n")
    (folder / "LICENSES").mkdir()
    used = tuple(sorted({row.spdx for row in rows}))
    for spdx in used:
        shutil.copyfile(_TEXTS / f"{spdx}.txt", folder / "LICENSES" / f"{spdx}.txt")
    return used

"""A web package: a static page with the bundles and onnxruntime-web. After the first visit it works offline."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evm_deploy import compiling
from evm_deploy.files import sha256_file
from evm_deploy.graph.cut import split_graph
from evm_deploy.jsontext import dumps
from evm_deploy.packaging.contents import Contents, NamedBundle, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.web import find_worker_file, list_page_files, runtime
from evm_deploy.web.config import PageMethod, PageModel, check_models, make_config
from evm_deploy.web.kernels import MODULE, find_module

NO_KERNELS = (
    "The kernels of our operators are not in this package (to add them, pip install ziglang and package again): the "
    "page runs the slower portable form."
)

README = """\
1. Put this folder on any static web server, unchanged; all its addresses are relative.
2. To try it locally: `python3 -m http.server --bind 127.0.0.1 --directory .`, then open http://localhost:8000/.
3. Serve it over https: over plain http, browsers allow a page no WebGPU, no threads and no offline use.
4. The page checks each model against its golden pair, classifies an image and measures. `sw.js` caches everything.
5. For your own app: `bundle.mjs` opens a bundle, `preprocess.mjs` prepares an image, `ways.mjs` runs the model.

onnxruntime-web {version} runs the models: on WASM with one thread; on WASM with a thread for each core, if the page is
isolated; and with WebGPU, if the browser has it. A page is isolated if the server sends the headers
`Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`. If the server does not send
them, `sw.js` adds them from the second visit on. Images are prepared as `evm-deploy predict` does it, to within one
level of 255. In files other than PNG, translucent pixels lose colour. If `runtime/evm_ops.wasm` is here, it computes
the scans and their norms on WASM, between the parts of the graph that are in `cut/`; the weights stay in the bundle.
"""


def write(bundles: Sequence[NamedBundle], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the page, the runtime and the bundles into `folder`. See `packaging.contents`.

    Raises OptionError: browsers cannot run a bundle; MissingToolError, InputError: onnxruntime-web is not available.
    """
    models = [PageModel(one.name, f"models/{one.name}/", one.bundle) for one in bundles]
    check_models(models)
    module, zig = find_module(say), compiling.find_zig_version()
    if module is not None:
        models = [replace(model, cut=split_graph(model.bundle)) for model in models]
    facts = make_config("package", options.name, models, PageMethod(), module=module)
    engine = runtime.fetch_files(say)
    for name, path in list_page_files().items():
        shutil.copyfile(path, folder / name)
    (folder / "runtime").mkdir()
    for name, path in engine.items():
        shutil.copyfile(path, folder / "runtime" / name)
    if module is not None:
        (folder / "runtime" / MODULE).write_bytes(module)
    for model in models:
        copy_bundle(model.bundle, folder / model.folder)
        for name, data in model.list_cut_files().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    (folder / "config.json").write_text(dumps(facts), encoding="utf-8", newline="\n")
    _write_worker(folder)
    return Contents(
        models={model.name: model.folder.rstrip("/") for model in models},
        readme=README.format(version=runtime.VERSION),
        licences=("onnxruntime-web",),
        notes=() if module is not None else (NO_KERNELS,),
        tools={"onnxruntime-web": runtime.VERSION} | ({} if zig is None else {"ziglang": zig}),
    )


def _write_worker(folder: Path) -> None:
    """Writes the service worker and `files.js`, the list of files to cache: at once, or on first use (GPU files)."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = {name: sha256_file(folder / name) for name in names}
    later = [f"runtime/{name}" for name in runtime.GPU_FILES]
    version = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    package = {"version": version, "first": [name for name in names if name not in later], "later": later}
    (folder / "files.js").write_text(f"self.PACKAGE = {dumps(package).strip()};\n", encoding="utf-8", newline="\n")
    shutil.copyfile(find_worker_file(), folder / "sw.js")

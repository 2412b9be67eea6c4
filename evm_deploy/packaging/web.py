"""A web package: a static page with the bundles and onnxruntime-web, which works without a network once it was open."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.files import sha256_file
from evm_deploy.jsontext import dumps
from evm_deploy.packaging.contents import Contents, Named, Say, copy_bundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.web import page_files, runtime, worker_file
from evm_deploy.web.config import Method, Model, config

README = """\
1. Put this folder on any static web server, as it is; every address in it is relative.
2. Try it here: `python3 -m http.server --bind 127.0.0.1 --directory .`, then open http://localhost:8000/.
3. Serve it by https: over plain http browsers offer a page no WebGPU, no threads and no use without a network.
4. The page holds each model to its golden pair, then classifies an image and measures; `sw.js` keeps all of it.
5. For an app of your own: `bundle.mjs` opens a bundle, `preprocess.mjs` prepares an image, `ways.mjs` runs it.

A model is run by onnxruntime-web {version}: on WASM with one thread, on WASM with as many threads as there are cores
where the page is isolated, and with WebGPU where the browser has it. Isolated is a page that comes with the headers
`Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`; where the server does not
send them `sw.js` adds them, from the second visit on. Images are prepared as `evm-deploy predict` does it, to within
one level of 255; of files other than PNG, pixels that are not opaque lose colour.
"""


def write(bundles: Sequence[Named], folder: Path, options: PackageOptions, say: Say) -> Contents:
    """Writes the page, the runtime and the bundles into `folder`. See `packaging.contents`.

    Raises OptionError: a bundle that browsers cannot run. MissingToolError, InputError: no onnxruntime-web.
    """
    models = [Model(one.name, f"models/{one.name}/", one.bundle) for one in bundles]
    facts = config("package", options.name, models, Method())
    engine = runtime.files(say)
    for name, path in page_files().items():
        shutil.copyfile(path, folder / name)
    (folder / "runtime").mkdir()
    for name, path in engine.items():
        shutil.copyfile(path, folder / "runtime" / name)
    for model in models:
        copy_bundle(model.bundle, folder / model.folder)
    (folder / "config.json").write_text(dumps(facts), encoding="utf-8", newline="\n")
    _write_worker(folder)
    return Contents(
        models={model.name: model.folder.rstrip("/") for model in models},
        readme=README.format(version=runtime.VERSION),
        licences=("onnxruntime-web",),
        tools={"onnxruntime-web": runtime.VERSION},
    )


def _write_worker(folder: Path) -> None:
    """The service worker, and `files.js` with what it keeps: at once, or when first used (what only GPUs need)."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = {name: sha256_file(folder / name) for name in names}
    later = [f"runtime/{name}" for name in runtime.GPU_FILES]
    version = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    package = {"version": version, "first": [name for name in names if name not in later], "later": later}
    (folder / "files.js").write_text(f"self.PACKAGE = {dumps(package).strip()};\n", encoding="utf-8", newline="\n")
    shutil.copyfile(worker_file(), folder / "sw.js")

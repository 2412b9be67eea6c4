"""Measures in a browser: this machine serves a page, and the browser that opens it, here or on a phone, runs it."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evm_deploy.errors import DeviceError, MissingToolError, OptionError
from evm_deploy.graph.cut import split_graph
from evm_deploy.jsontext import dumps
from evm_deploy.profiling import report, requests
from evm_deploy.profiling.devices.answers import refuse_options
from evm_deploy.profiling.devices.posted import ExpectedResult, accept_profile
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.web import list_page_files, runtime
from evm_deploy.web.config import PageMethod, PageModel, check_models, make_config
from evm_deploy.web.kernels import MODULE, find_module

if TYPE_CHECKING:
    from evm_deploy.profiling.devices.page_server import PageServer, Site

INSTALL = 'pip install "evm-deploy[browser]"'
PROVIDERS = ("cpu", "webgpu")  # cpu: WASM, and WebGPU if the browser has it; webgpu: only WebGPU
# Options that a page cannot follow: it always takes every way that the browser has.
NOT_HERE = ("affinity", "every_way", "library", "operators", "checkpoint", "runner", "app")
ELSEWHERE = "192.0.2.1"  # a reserved address (RFC 5737); asking for the route to it sends nothing

Say = Callable[[str], None]


def measure(address: str, bundles: Sequence[Path], options: ProfileOptions, say: Say) -> ProfileReport:
    """Serves the page until a browser has sent its profile. See `devices.Device`.

    Every bundle runs on WASM with one thread and with a thread for each core (or only with `options.threads`), each
    with and without our kernels (where ziglang is there, which compiles them), and with WebGPU if the browser has it.
    Raises MissingToolError: aiohttp, segno or onnxruntime-web is not installed.
    """
    _check(options)
    models = [
        PageModel(name, f"models/{at}/", bundle) for at, (name, bundle) in enumerate(requests.open_bundles(bundles))
    ]
    try:
        return asyncio.run(_wait_for_profile(_make_site(models, options, say), say))
    except OSError as error:
        raise DeviceError(f"the page cannot be served ({error.strerror or error}).", "check the network.") from error


async def _wait_for_profile(site: Site, say: Say) -> ProfileReport:
    from evm_deploy.profiling.devices.page_server import PageServer

    async with PageServer(site, say) as server:
        _announce(server, site.lan, say)
        return await server.wait_for_profile()


def _make_site(models: Sequence[PageModel], options: ProfileOptions, say: Say) -> Site:
    try:
        from evm_deploy.profiling.devices.page_server import Site
    except ImportError as error:
        raise MissingToolError(f"the browser device needs aiohttp ({error}).", INSTALL) from error
    provider = "webgpu" if options.provider == "webgpu" else "all"
    method = PageMethod(options.iterations if options.seconds is None else None, options.seconds, options.warm_up)
    title = "Models in this browser"
    check_models(models)
    module = find_module(say)
    if module is None:
        say("the page has no kernels of our operators: pip install ziglang, which compiles them")
    else:
        models = [replace(model, cut=split_graph(model.bundle)) for model in models]
    facts = make_config("profile", title, models, method, threads=options.threads, provider=provider, module=module)
    files: dict[str, Path | bytes] = {**list_page_files(), "config.json": dumps(facts).encode()}
    files |= {f"runtime/{name}": path for name, path in runtime.fetch_files(say).items()}
    files |= {} if module is None else {f"runtime/{MODULE}": module}
    for model in models:
        files |= model.list_cut_files()
        files |= {model.folder + name: model.bundle.path / name for name in model.list_files()}
    expected = {model.name: _expect(model) for model in models}
    asked = report.Method(method.iterations, method.seconds, method.warm_up, interleaved=True)
    return Site(files, lambda text: accept_profile(text, expected, asked), options.lan, options.timeout)


def _expect(model: PageModel) -> ExpectedResult:
    manifest, entry = model.bundle.manifest, model.describe()
    size = model.bundle.model_path.stat().st_size
    return ExpectedResult(manifest.target, manifest.precision, entry["sha256"], size, entry["limits"]["most"])


def _announce(server: PageServer, lan: bool, say: Say) -> None:
    """Shows the address of the page: on a terminal above the progress, and for other devices as a QR code."""
    url = server.make_address(_find_lan_address() if lan else "127.0.0.1")
    if sys.stderr.isatty():
        print(f"{_draw_qr(url) if lan else ''}open {url}", file=sys.stderr, flush=True)
    say(f"waiting for a browser to open {url}")
    if lan:
        port = server.port
        say("over plain http, browsers allow only one thread and no WebGPU; an Android phone on a cable allows both:")
        say(f"  adb reverse tcp:{port} tcp:{port}, then open {server.make_address('localhost')}")


def _find_lan_address() -> str:
    """The address of this machine in its network. Raises DeviceError: it is not in a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError as error:
            fix = "connect it, or leave out --lan and open the page on this machine."
            raise DeviceError(f"this machine is not in a network ({error.strerror}).", fix) from error


def _draw_qr(url: str) -> str:
    try:
        import segno
    except ImportError as error:
        raise MissingToolError(f"the QR code of --lan needs segno ({error}).", INSTALL) from error
    text = io.StringIO()
    segno.make(url, error="l").terminal(text, compact=True)
    return text.getvalue()


def _check(options: ProfileOptions) -> None:
    refuse_options(options, "browser", NOT_HERE)
    if options.provider not in PROVIDERS:
        raise OptionError(f"a browser has no provider {options.provider!r}.", f"choose {' or '.join(PROVIDERS)}.")

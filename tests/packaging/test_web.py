"""The web package, opened from a plain static server in a real Chromium, with and without a network."""

import functools
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evm_deploy import compiling
from evm_deploy.bundle import Bundle
from evm_deploy.errors import EvmDeployError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.packaging import web
from evm_deploy.packaging.contents import RESERVED, Contents, NamedBundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.web import kernels, runtime

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
PATIENCE = 60.0  # seconds that a test waits for what takes a moment
OPTIONS = PackageOptions("web", name="Digits")


@pytest.fixture
def without_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty files instead of onnxruntime-web's, and no compiler for the kernels."""
    (tmp_path / "empty").touch()
    monkeypatch.setattr(runtime, "fetch_files", lambda say: dict.fromkeys(runtime.FILES, tmp_path / "empty"))
    monkeypatch.setattr(compiling, "find_zig_version", lambda: None)


def written(folder: Path, *bundles: Bundle) -> Contents:
    folder.mkdir()
    return web.write([NamedBundle(f"m{at}", bundle) for at, bundle in enumerate(bundles)], folder, OPTIONS, print)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("without_runtime")
def test_the_same_bundles_give_the_same_bytes(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    first, again = tmp_path / "first", tmp_path / "again"
    assert written(first, bundle) == written(again, bundle)
    assert {name: sha256_file(first / name) for name in names(first)} == {
        name: sha256_file(again / name) for name in names(again)
    }


@pytest.mark.usefixtures("without_runtime")
def test_the_worker_keeps_every_file(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    contents = written(tmp_path / "out", make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two"))
    text = (tmp_path / "out" / "files.js").read_text()
    kept = json.loads(text.removeprefix("self.PACKAGE = ").rstrip().rstrip(";"))
    assert {*kept["first"], *kept["later"]} == names(tmp_path / "out") - {"files.js", "sw.js"}
    assert all("asyncify" in name or "webgpu" in name for name in kept["later"])
    assert contents.models == {"m0": "models/m0", "m1": "models/m1"}
    assert Bundle.open(tmp_path / "out" / "models" / "m1").manifest.files
    assert not names(tmp_path / "out") & set(RESERVED)


@pytest.mark.usefixtures("without_runtime")
def test_another_model_is_another_version(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    written(tmp_path / "first", make_bundle(tmp_path / "one"))
    written(tmp_path / "second", make_bundle(tmp_path / "two", model=b"another"))
    assert (tmp_path / "first" / "files.js").read_text() != (tmp_path / "second" / "files.js").read_text()


@pytest.mark.usefixtures("without_runtime")
def test_kernels_and_the_cut_graph_are_in_it_where_they_can_be_compiled(
    make_bundle: Callable[..., Bundle], exported: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = written(tmp_path / "without", make_bundle(tmp_path / "bundle"))
    assert without.notes == (web.NO_KERNELS,)
    assert not [name for name in names(tmp_path / "without") if name.startswith("cut/") or name.endswith("ops.wasm")]
    monkeypatch.setattr(compiling, "find_zig_version", lambda: "0.17")
    monkeypatch.setattr(kernels, "build_module", lambda: b"module")
    made = written(tmp_path / "with", exported("digits", labels=EXAMPLES / "labels.txt"))
    assert made.notes == ()
    assert made.tools["ziglang"] == "0.17"
    assert (tmp_path / "with/runtime/evm_ops.wasm").read_bytes() == b"module"
    config = json.loads((tmp_path / "with/config.json").read_text())
    plan = config["models"][0]["cut"]
    assert sha256_file(tmp_path / "with" / plan["folder"] / plan["plan"]) == plan["sha256"]
    assert config["kernels"]["sha256"] == sha256_file(tmp_path / "with/runtime/evm_ops.wasm")


def test_bundles_for_others_are_refused_before_anything_is_written(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="browsers run onnx"):
        written(tmp_path / "out", make_bundle(tmp_path / "apple", target="coreml"))
    assert not names(tmp_path / "out")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Site:
    """A plain static server; `stop` is the end of the network."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/app/"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def digits(exported: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package in the folder `app` of the one that is returned."""
    try:
        runtime.fetch_files()
    except EvmDeployError as error:
        pytest.skip(f"onnxruntime-web is not here: {error.cause}")
    folder = tmp_path_factory.mktemp("site")
    written(folder / "app", exported("digits", labels=EXAMPLES / "labels.txt"))
    return folder


@pytest.fixture
def site(digits: Path) -> Iterator[Site]:
    site = Site(digits)
    yield site
    if site._thread.is_alive():
        site.stop()


def wait(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def text(chromium: Any, name: str) -> str:
    return str(chromium.driver.execute_script("return document.getElementById(arguments[0]).innerText", name))


def visit(chromium: Any, site: Site) -> None:
    chromium.driver.get(site.url)
    wait(lambda: text(chromium, "status").startswith(("Ready", "Stopped")))


def classify(chromium: Any, image: str) -> str:
    chromium.driver.find_element("id", "file").send_keys(str(EXAMPLES / "images" / image))
    wait(lambda: "%" in text(chromium, "status"))
    return text(chromium, "status")


def test_the_golden_pair_agrees_and_images_get_their_class(chromium: Any, site: Site) -> None:
    visit(chromium, site)
    assert chromium.driver.title == "Digits"
    assert "passed" in text(chromium, "checks")
    assert "of 1.0e-4" in text(chromium, "checks")
    assert ("with our kernels" in text(chromium, "checks")) == (compiling.find_zig_version() is not None)
    assert classify(chromium, "held_out_003_is_3.png") == "3, 94 %"
    assert classify(chromium, "held_out_007_is_7.png").startswith("7, ")
    assert chromium.errors() == []


def test_it_works_without_a_network_and_gets_threads_on_the_second_visit(chromium: Any, site: Site) -> None:
    visit(chromium, site)
    chromium.driver.execute_async_script("navigator.serviceWorker.ready.then(() => arguments[0]())")
    wait(lambda: chromium.driver.execute_script("return navigator.serviceWorker.controller !== null"))
    site.stop()
    visit(chromium, site)
    assert chromium.driver.execute_script("return crossOriginIsolated")
    assert classify(chromium, "held_out_003_is_3.png") == "3, 94 %"
    assert chromium.errors() == []


def test_it_measures_and_saves_a_profile(chromium: Any, site: Site, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    chromium.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    visit(chromium, site)
    chromium.driver.find_element("id", "measure").click()
    wait(lambda: text(chromium, "status") == "Measured.")
    chromium.driver.find_element("id", "save").click()
    saved = tmp_path / "profile.json"
    wait(saved.is_file)
    report = ProfileReport.from_json(saved.read_bytes())
    assert len(report.results[0].samples_ms) == 50
    assert report.results[0].bundle == "m0"
    assert "ms, the median" in text(chromium, "results")
    assert chromium.errors() == []


CUT = ["cut/models/m0/plan.json", "cut/models/m0/part0.onnx", "runtime/evm_ops.wasm"]
WHOLE = ["models/m0/model.onnx", "models/m0/manifest.json", "models/m0/sample/output.npy"]


@pytest.mark.parametrize("name", [*WHOLE, *CUT])
def test_a_changed_byte_is_noticed(chromium: Any, digits: Path, site: Site, name: str) -> None:
    path = digits / "app" / name
    if name in CUT and not path.exists():
        pytest.skip("ziglang is not installed")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        visit(chromium, site)
        assert "has been changed" in text(chromium, "notices")
    finally:
        path.write_bytes(whole)


def test_nothing_is_wider_than_the_screen_and_it_is_dark_where_wanted(chromium: Any, site: Site) -> None:
    visit(chromium, site)
    classify(chromium, "held_out_003_is_3.png")
    shades = "const style = getComputedStyle(document.documentElement); return [style.backgroundColor, style.color]"
    for width, dark in ((320, False), (390, True), (1280, False)):
        chromium.look(width=width, dark=dark)
        assert chromium.driver.execute_script("return document.documentElement.scrollWidth") <= width
        ground, ink = chromium.driver.execute_script(shades)
        assert (brightness(ground) < brightness(ink)) == dark


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

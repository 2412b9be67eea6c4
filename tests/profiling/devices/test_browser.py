"""The browser device: what its server lets in, and what a page in a real Chromium sends back."""

import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from evm_deploy import compiling
from evm_deploy.bundle import Bundle, IOSpec, Manifest, Sample, write_bundle
from evm_deploy.errors import DeviceError, EvmDeployError, MissingToolError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.profiling.devices import browser, page_connections, page_server
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.web import kernels, runtime

EXAMPLES = Path(__file__).parents[3] / "examples" / "digits"
IMAGES = EXAMPLES / "images"
PATIENCE = 30.0  # seconds that a test waits for what takes a moment
LONG = 300.0  # for measuring on a busy machine
OPTIONS = ProfileOptions(device="browser", iterations=5, warm_up=1, timeout=PATIENCE)


class Visit:
    """A running `browser.measure`, in a thread; `report()` waits for what it gives, or raises it."""

    def __init__(self, bundles: list[Path], options: ProfileOptions) -> None:
        self.said: list[str] = []
        self.inside: Client | None = None
        self.left = False
        self._opened, self._outcome = threading.Event(), [None]
        self._thread = threading.Thread(target=self._run, args=(bundles, options), daemon=True)
        self._thread.start()
        assert self._opened.wait(PATIENCE)

    def _run(self, bundles: list[Path], options: ProfileOptions) -> None:
        try:
            self._outcome[0] = browser.measure("", bundles, options, self._say)
        except EvmDeployError as error:
            self._outcome[0] = error
        self._opened.set()

    def _say(self, text: str) -> None:
        self.said.append(text)
        if "waiting for a browser" in text:
            self._opened.set()

    @property
    def url(self) -> str:
        return next(found[0] for text in self.said if (found := re.search(r"http://\S+", text)))

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def report(self) -> ProfileReport:
        self._thread.join(LONG)
        assert not self.running
        if isinstance(self._outcome[0], Exception):
            raise self._outcome[0]
        return self._outcome[0]


class Client:
    """A browser without a screen: HTTP with a cookie."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.host, self.path = re.fullmatch(r"http://([^/]+)(/.*)", visit.url).groups()
        self.cookie = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        with contextlib.closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Cookie": self.cookie, **given}, encode_chunked=False)
            answer = connection.getresponse()
            self.headers = answer.headers
            return answer.status, answer.read().decode("utf-8", "replace")

    def enter(self) -> "Client":
        assert self.ask("GET", self.path)[0] == 303
        self.cookie = self.headers["Set-Cookie"].split(";")[0]
        self._visit.inside = self
        return self

    def leave(self) -> None:
        self._visit.left = True
        self.ask("POST", "/failed", "the test is over")


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled for the page, unless a test asks for it."""
    monkeypatch.setattr(browser, "find_module", lambda say: None)


@pytest.fixture
def visit(
    make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Visit]]:
    """Serves a bundle that nothing runs, without onnxruntime-web."""
    monkeypatch.setattr(runtime, "fetch_files", lambda say: {})
    make_bundle(tmp_path / "cats")
    made: list[Visit] = []

    def start(**options: Any) -> Visit:
        made.append(Visit([tmp_path / "cats"], dataclasses.replace(OPTIONS, **options)))
        return made[-1]

    yield start
    for one in made:
        if one.running and not one.left:
            (one.inside or Client(one).enter()).leave()
        with contextlib.suppress(DeviceError):
            one.report()


def posted(client: Client, **changes: Any) -> dict[str, Any]:
    """What the page would post; changes of the result's fields, or of the document's with a `document_` before them."""
    config = json.loads(client.ask("GET", "/config.json")[1])
    model, manifest = config["models"][0], json.loads(client.ask("GET", "/models/0/manifest.json")[1])
    result = {
        "name": "cats (WASM)",
        "bundle": model["name"],
        "runtime": "onnxruntime-web wasm",
        "provider": "wasm",
        "target": manifest["target"],
        "precision": manifest["precision"],
        "sha256": model["sha256"],
        "size_bytes": len(client.ask("GET", "/models/0/model.onnx")[1]),
        "golden": {"relative_error": 1e-6, "tolerance": model["limits"]["most"], "passed": True},
        "samples_ms": [1.0, 2.0, 1.5, 1.25, 1.0],
    }
    own = {name.removeprefix("document_"): changes.pop(name) for name in list(changes) if name.startswith("document_")}
    return {
        "schema": "evm-deploy/profile",
        "version": 1,
        "device": {"kind": "browser", "name": "phone"},
        "conditions": {},
        "method": {**config["method"], "interleaved": True},
        "results": [result | changes],
        "created": "yesterday",
        "tool": "the page's own",
        **own,
    }


def test_a_profile_is_taken(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    status, answer = client.ask("POST", "/profile", json.dumps(posted(client)))
    assert (status, json.loads(answer)) == (200, {"accepted": True})
    report = served.report()
    assert report.results[0].samples_ms == (1.0, 2.0, 1.5, 1.25, 1.0)
    assert report.tool != "the page's own"
    assert report.created.startswith("20")
    assert ProfileReport.from_json(report.to_json().encode()) == report


def test_what_is_computed_here_is_not_taken_from_a_page(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    document = posted(client, accuracy=1.0)
    figure = {"value": 1.0, "low": 1.0, "high": 1.0}
    document["ratios"] = [{"name": "a", "reference": "b", "ratio": figure}]
    assert client.ask("POST", "/profile", json.dumps(document))[0] == 200
    report = served.report()
    assert (report.ratios, report.results[0].accuracy) == ((), None)


@pytest.mark.parametrize("token", ["", "wrong", "%F0%9F%98%80", "x" * 4000])
def test_a_wrong_token_is_refused_and_the_right_one_works_on(visit: Callable[..., Visit], token: str) -> None:
    client = Client(visit())
    assert client.ask("GET", f"/?token={token}")[0] == 403
    client.enter()
    assert client.ask("GET", "/")[0] == 200


def test_the_address_is_for_one_browser(visit: Callable[..., Visit]) -> None:
    served = visit()
    first, second = Client(served).enter(), Client(served)
    assert second.ask("GET", second.path)[0] == 403
    assert first.ask("GET", first.path)[0] == 303  # the same one may load it again
    second.cookie = first.cookie[:-1] + ("a" if first.cookie[-1] != "a" else "b")
    assert second.ask("GET", "/")[0] == 403
    first.leave()


@pytest.mark.parametrize("path", ["/", "/config.json", "/models/0/model.onnx", "/app.mjs", "/nothing"])
def test_without_the_cookie_there_is_nothing(visit: Callable[..., Visit], path: str) -> None:
    client = Client(visit())
    assert client.ask("GET", path)[0] == 403
    assert client.ask("POST", "/profile", "{}")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "192.0.2.7:80", ""])
def test_other_names_of_this_server_are_refused(visit: Callable[..., Visit], host: str) -> None:
    client = Client(visit()).enter()
    assert client.ask("GET", "/", Host=host)[0] in (400, 403)
    assert client.ask("GET", "/")[0] == 200


def test_posts_from_another_sites_page_are_refused(visit: Callable[..., Visit]) -> None:
    client = Client(visit()).enter()
    assert client.ask("POST", "/alive", "here", Origin="http://evil.example")[0] == 403
    assert client.ask("POST", "/alive", "here", Origin="null")[0] == 403
    assert client.ask("POST", "/alive", "here", Origin=f"http://{client.host}")[0] == 204


@pytest.mark.parametrize("path", ["/models/0/../../etc/passwd", "/../web/config.py", "/models/0/..%2fmanifest.json",
                                  "/models/1/model.onnx", "/sw.js", "/models/0/"])  # fmt: skip
def test_only_the_pages_files_are_served(visit: Callable[..., Visit], path: str) -> None:
    client = Client(visit()).enter()
    assert client.ask("GET", path)[0] == 404


def test_the_page_may_start_threads_here_and_be_framed_nowhere(visit: Callable[..., Visit]) -> None:
    client = Client(visit()).enter()
    client.ask("GET", "/")
    assert client.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert client.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "frame-ancestors 'none'" in client.headers["Content-Security-Policy"]
    assert client.headers["Cache-Control"] == "no-store"


def test_a_post_of_a_gigabyte_is_refused_before_it_is_read(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    connection = http.client.HTTPConnection(client.host, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/profile")
        connection.putheader("Cookie", client.cookie)
        connection.putheader("Content-Length", str(1 << 30))
        connection.endheaders(b"[" * 1000)
        assert connection.getresponse().status == 413
    assert client.ask("POST", "/profile", json.dumps(posted(client)))[0] == 200
    assert served.report().results


def test_a_post_that_does_not_say_its_length_is_cut_off(
    visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "LARGEST", 1 << 20)
    served = visit()
    client = Client(served).enter()

    def endless() -> Iterator[bytes]:
        while True:
            yield b"10000\r\n" + b"[" * 0x10000 + b"\r\n"

    with contextlib.suppress(ConnectionError):  # the server closes, which may be seen before its answer is
        assert client.ask("POST", "/profile", endless(), Transfer_Encoding="chunked")[0] == 413
    assert client.ask("POST", "/profile", json.dumps(posted(client)))[0] == 200
    assert served.report().results


def test_compressed_and_long_words_are_refused(visit: Callable[..., Visit]) -> None:
    client = Client(visit()).enter()
    assert client.ask("POST", "/profile", b"\x1f\x8b", Content_Encoding="gzip")[0] == 415
    assert client.ask("POST", "/alive", b"x" * 3000)[0] == 413


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "[" * 100_000, '{"schema": "other"}', "\xff", '{"version": 1}']
)
def test_what_is_no_profile_is_refused_and_the_server_lives_on(visit: Callable[..., Visit], text: str) -> None:
    served = visit()
    client = Client(served).enter()
    assert client.ask("POST", "/profile", text.encode("latin-1"))[0] == 400
    assert client.ask("POST", "/profile", json.dumps(posted(client)))[0] == 200
    assert served.report().results


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 64},
        {"size_bytes": 1},
        {"precision": "int8"},
        {"target": "coreml"},
        {"bundle": "dogs"},
        {"golden": None},
        {"golden": {"relative_error": 1e-6, "tolerance": 1.0, "passed": True}},
        {"golden": {"relative_error": 0.5, "tolerance": 1e-4, "passed": True}},
        {"golden": {"relative_error": 0.5, "tolerance": 1e-4, "passed": False}},
        {"golden": {"relative_error": None, "tolerance": 1e-4, "passed": True}},
        {"samples_ms": [1.0] * 6},
        {"samples_ms": [-1.0]},
        {"samples_ms": ["1"]},
        {"name": "x" * 501},
        {"notes": ["a"] * 65},
        {"unknown": 1},
        {"document_device": {"kind": "local", "name": "phone"}},
        {"document_method": {"iterations": 9, "seconds": None, "warm_up": 1, "interleaved": True}},
        {"document_conditions": {"versions": {"x" * 501: "1"}}},
        {"document_results": []},
    ],
    ids=str,
)
def test_what_was_not_measured_here_is_refused(visit: Callable[..., Visit], changes: dict[str, Any]) -> None:
    client = Client(visit()).enter()
    status, reason = client.ask("POST", "/profile", json.dumps(posted(client, **changes)))
    assert status == 400
    assert "profile" in reason
    client.leave()


def test_contenders_that_did_not_take_turns_are_refused(visit: Callable[..., Visit]) -> None:
    client = Client(visit()).enter()
    one = posted(client)["results"][0]
    document = posted(client, document_results=[one, one | {"name": "two", "samples_ms": [1.0]}])
    assert client.ask("POST", "/profile", json.dumps(document))[0] == 400


@pytest.mark.slow
def test_hundreds_of_idle_connections_stop_nobody(
    visit: Callable[..., Visit], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """More than the system allows a process to have open; some of them have begun a request."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    served, idle = visit(), [socket.socket() for _ in range(400)]
    most = len(list(Path("/dev/fd").iterdir())) + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))  # the server is in this process, and has 200 left
    try:
        host, port = Client(served).host.split(":")
        for each in idle:
            each.connect((host, int(port)))
            each.sendall(b"GET / HTTP/1.1\r\nHost:")
        client = Client(served).enter()
        assert client.ask("GET", "/")[0] == 200
    finally:
        for each in idle:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (capfd.readouterr().err, caplog.records) == ("", [])


def test_a_connection_that_asks_nothing_is_closed(visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_connections, "LONGEST_IDLE", 0.3)
    host, port = Client(visit()).host.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert idle.recv(100) == b""


def test_what_is_sent_slowly_is_sent_to_its_end(
    visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A download is no idle connection, however long it takes."""
    monkeypatch.setattr(page_connections, "LONGEST_IDLE", 0.3)
    monkeypatch.setattr(page_server, "HEADERS", {"X-Padding": "x" * 1000})
    client = Client(visit()).enter()
    size = 8 << 20
    (tmp_path / "cats" / "model.onnx").write_bytes(bytes(size))
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as slow:
        request = f"GET /models/0/model.onnx HTTP/1.1\r\nHost: {client.host}\r\nCookie: {client.cookie}\r\n\r\n"
        slow.sendall(request.encode())
        time.sleep(1)
        found = 0
        while found < size:
            found += len(part := slow.recv(1 << 20))
            assert part


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_nothing_to_report(
    visit: Callable[..., Visit],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    text: bytes,
) -> None:
    client = Client(visit())
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as stranger:
        stranger.sendall(text)
        assert b"200" not in stranger.recv(1000)
    client.enter()
    assert (capfd.readouterr().err, caplog.records) == ("", [])


def test_a_page_that_is_closed_may_come_back(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    assert client.ask("POST", "/closed")[0] == 204
    wait(lambda: any("the page was closed" in text for text in served.said))
    assert Client(served).ask("GET", client.path)[0] == 403  # another browser
    assert client.ask("GET", client.path)[0] == 303
    assert client.ask("GET", "/")[0] == 200
    assert client.ask("POST", "/profile", json.dumps(posted(client)))[0] == 200
    assert served.report().results


def test_a_page_that_is_loaded_again_is_not_called_closed(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    client.ask("POST", "/closed")
    client.ask("GET", "/")
    time.sleep(page_server.GONE + 3 * page_server.TICK)
    assert not any("closed" in text for text in served.said)


def test_nobody_comes(visit: Callable[..., Visit]) -> None:
    with pytest.raises(DeviceError, match="nobody has opened"):
        visit(timeout=1).report()


def test_the_page_falls_silent(visit: Callable[..., Visit]) -> None:
    served = visit(timeout=1)
    Client(served).enter()
    with pytest.raises(DeviceError, match="stopped sending"):
        served.report()


def test_the_page_stops(visit: Callable[..., Visit]) -> None:
    served = visit()
    Client(served).enter().leave()
    with pytest.raises(DeviceError, match="the test is over"):
        served.report()


def test_what_the_page_does_is_said_once(visit: Callable[..., Visit]) -> None:
    served = visit()
    client = Client(served).enter()
    for stage in ("Warming up", "Warming up", "Measuring"):
        client.ask("POST", "/alive", stage)
    assert [text for text in served.said if "ing" in text][-2:] == ["Warming up", "Measuring"]
    assert served.said.count("Warming up") == 1


def test_on_a_lan_plain_addresses_are_let_in_and_names_are_not(visit: Callable[..., Visit]) -> None:
    try:
        client = Client(visit(lan=True))
    except StopIteration:
        pytest.skip("this machine is not in a network")
    client.enter()
    assert client.ask("GET", "/")[0] == 200
    assert "Cross-Origin-Opener-Policy" not in client.headers  # browsers complain of it over plain http
    assert client.ask("GET", "/", Host="evil.example")[0] == 403


def test_the_terminal_shows_a_code_for_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("segno")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class Server:
        port = 8000

        def make_address(self, host: str) -> str:
            return f"http://{host}:8000/?token=t"

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(browser, "_find_lan_address", lambda: "192.0.2.9")
    said: list[str] = []
    browser._announce(Server(), True, said.append)  # type: ignore[arg-type]
    assert "█" in terminal.getvalue()
    assert "open http://192.0.2.9:8000/?token=t" in terminal.getvalue()
    assert any("one thread" in text for text in said)


@pytest.mark.parametrize(
    "options",
    [
        {"affinity": (0,)},
        {"every_way": True},
        {"library": False},
        {"operators": True},
        {"checkpoint": Path("x.pth")},
        {"app": Path("x.apk")},
        {"provider": "cuda"},
    ],
    ids=str,
)
def test_what_a_browser_cannot_do_is_an_error(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        browser.measure("", [tmp_path], dataclasses.replace(OPTIONS, **options), print)


def test_bundles_for_others_are_refused(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    make_bundle(tmp_path / "apple", target="coreml")
    with pytest.raises(OptionError, match="browsers run onnx"):
        browser.measure("", [tmp_path / "apple"], OPTIONS, print)


def test_without_aiohttp(make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "cats")
    monkeypatch.setitem(sys.modules, "evm_deploy.profiling.devices.page_server", None)
    with pytest.raises(MissingToolError, match="aiohttp"):
        browser.measure("", [tmp_path / "cats"], OPTIONS, print)


INTERRUPTED = """
import sys
from pathlib import Path
from evm_deploy.profiling.devices import browser
from evm_deploy.profiling.profile_options import ProfileOptions
browser.runtime.fetch_files = lambda say: {}
try:
    browser.measure("", [Path(sys.argv[1])], ProfileOptions(), lambda text: print(text, flush=True))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(os.name == "nt", reason="another signal there")
def test_ctrl_c_ends_it(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    make_bundle(tmp_path / "cats")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "cats")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert any("waiting" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, error) == (0, "interrupted\n", "")


# From here on: in a real Chromium.


@pytest.fixture(scope="session")
def web_runtime() -> None:
    try:
        runtime.fetch_files()
    except EvmDeployError as error:
        pytest.skip(f"onnxruntime-web is not here: {error.cause}")


@pytest.fixture(scope="session")
def digits(exported: Callable[..., Bundle]) -> Path:
    return exported("digits", labels=EXAMPLES / "labels.txt").path


Colours = Callable[..., Path]


@pytest.fixture
def colours(manifest: Manifest, tmp_path: Path) -> Colours:
    """`colours(name, wrong=0.0)` writes a bundle that means over colours; its golden output is off by `wrong`."""
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["logits"], keepdims=0)]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    axes = [numpy_helper.from_array(np.array([2, 3]), "axes")]
    graph = helper.make_graph(nodes, "colours", [image], [logits], axes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    shape = IOSpec("image", (1, 3, 32, 32), "float32", "NCHW", "image")
    facts: dict[str, Any] = {"inputs": (shape,), "outputs": (IOSpec("logits", (1, 3), "float32", "NC", "logits"),)}

    def make(name: str, wrong: float = 0.0) -> Path:
        pixels = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
        with write_bundle(tmp_path / name) as draft:
            (draft.path / "model.onnx").write_bytes(model.SerializeToString())
            draft.write_sample(Sample(pixels, (pixels.mean((2, 3)) + np.float32(wrong),)))
            draft.seal(dataclasses.replace(manifest, **facts))
        return tmp_path / name

    return make


@pytest.fixture
def hard_colours(colours: Colours, tmp_path: Path) -> Path:
    """A bundle with an operator that WebGPU lacks."""
    plain = Bundle.open(colours("plain"))
    model = onnx.load(plain.model_path)
    model.graph.node[0].output[0] = "means"
    model.graph.node.append(helper.make_node("Hardmax", ["means"], ["logits"]))
    with write_bundle(tmp_path / "hard") as draft:
        (draft.path / "model.onnx").write_bytes(model.SerializeToString())
        draft.write_sample(plain.sample())
        draft.seal(plain.manifest)
    return tmp_path / "hard"


def wait(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def measured(chromium: Any, bundles: list[Path], **options: Any) -> ProfileReport:
    """What a page that Chromium opens sends back, without a complaint."""
    served = Visit(bundles, dataclasses.replace(OPTIONS, **options))
    chromium.driver.get(served.url)
    report = served.report()
    wait(lambda: chromium.driver.execute_script("return document.documentElement.dataset.sent"))
    assert chromium.errors() == []
    return report


def status(chromium: Any) -> str:
    return str(chromium.driver.execute_script("return document.getElementById('status').textContent"))


@pytest.mark.usefixtures("web_runtime")
def test_chromium_measures_and_classifies(chromium: Any, digits: Path) -> None:
    report = measured(chromium, [digits])
    first = report.results[0]
    assert (report.device.kind, first.runtime, first.target) == ("browser", "onnxruntime-web wasm", "onnx")
    assert first.golden
    assert first.golden.passed
    assert first.golden.tolerance == 1e-4
    assert report.conditions.versions["onnxruntime-web"] == runtime.VERSION
    for result in report.results:
        assert len(result.samples_ms) == OPTIONS.iterations
        assert result.load_ms
        assert result.first_ms
        assert result.sha256 == sha256_file(digits / "manifest.json")
    threads = {result.runtime for result in report.results}
    assert threads == {
        "onnxruntime-web wasm",
        *([f"onnxruntime-web wasm, {os.cpu_count()} threads"] * (os.cpu_count() > 1)),
    }
    chromium.driver.find_element("id", "file").send_keys(str(IMAGES / "held_out_003_is_3.png"))
    wait(lambda: "94 %" in status(chromium))
    assert status(chromium).startswith("3, ")  # the server has ended, and the page goes on


@pytest.mark.usefixtures("web_runtime")
@pytest.mark.skipif(compiling.find_zig_version() is None, reason="ziglang is not installed")
def test_our_kernels_run_the_scans_where_the_model_has_any(
    chromium: Any, digits: Path, colours: Colours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "find_module", kernels.find_module)
    report = measured(chromium, [digits, colours("one")], threads=1)
    assert [(result.bundle, result.runtime, result.error) for result in report.results] == [
        ("digits", "onnxruntime-web wasm", None),
        ("digits", "onnxruntime-web wasm + evm_ops", None),
        ("one", "onnxruntime-web wasm", None),
    ]
    assert all(result.golden and result.golden.passed for result in report.results)


@pytest.mark.usefixtures("web_runtime")
def test_several_bundles_take_turns(chromium: Any, colours: Colours) -> None:
    report = measured(chromium, [colours("one"), colours("two")], threads=1, iterations=7)
    assert [result.name for result in report.results] == ["one (WASM, 1 thread)", "two (WASM, 1 thread)"]
    assert [len(result.samples_ms) for result in report.results] == [7, 7]
    assert report.method.interleaved
    assert report.conditions.threads == 1


@pytest.mark.usefixtures("web_runtime")
def test_time_may_be_asked_for_instead_and_the_page_be_loaded_again(chromium: Any, colours: Colours) -> None:
    served = Visit([colours("one")], dataclasses.replace(OPTIONS, threads=1, seconds=3.0))

    def close_page() -> bool:
        """Opens and closes it: what a page that goes away sends, a busy browser may drop."""
        chromium.driver.get(served.url)
        wait(lambda: "in this browser" in chromium.driver.title)  # it has begun
        chromium.driver.get("about:blank")
        time.sleep(1)
        return any("the page was closed" in text for text in served.said)

    wait(close_page)
    chromium.driver.get(served.url)
    chromium.driver.refresh()
    report = served.report()
    assert report.method.iterations is None
    assert len(report.results[0].samples_ms) > 2


@pytest.mark.usefixtures("web_runtime")
def test_a_golden_pair_that_fails_is_never_timed(chromium: Any, colours: Colours) -> None:
    report = measured(chromium, [colours("right"), colours("wrong", wrong=3e-4)], threads=1)
    right, wrong = report.results
    assert right.error is None
    assert "golden pair" in str(wrong.error)
    assert wrong.golden
    assert wrong.golden.relative_error == pytest.approx(3e-4, rel=0.1)
    assert (wrong.golden.passed, wrong.samples_ms) == (False, ())


@pytest.mark.usefixtures("web_runtime")
def test_names_are_text(chromium: Any, colours: Colours) -> None:
    name = "<img src=x onerror=alert(1)>"
    report = measured(chromium, [colours(name)], threads=1)
    assert report.results[0].bundle == name
    assert name in chromium.driver.find_element("id", "results").text
    assert not chromium.driver.find_elements("css selector", "img")


@pytest.mark.usefixtures("web_runtime")
def test_a_file_that_changes_on_the_way_stops_the_page(chromium: Any, colours: Colours) -> None:
    bundle = colours("one")
    served = Visit([bundle], OPTIONS)
    model = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(bytes([model[0] ^ 1]) + model[1:])
    chromium.driver.get(served.url)
    with pytest.raises(DeviceError, match=r"model\.onnx of one has been changed"):
        served.report()


@pytest.mark.slow
@pytest.mark.usefixtures("web_runtime")
def test_the_tiny_model_on_wasm(chromium: Any, exported: Callable[..., Bundle]) -> None:
    report = measured(chromium, [exported("tiny", image_size=(224, 224)).path], threads=1, iterations=2)
    assert report.results[0].error is None
    assert report.results[0].golden
    assert float(report.results[0].golden.relative_error or 0) < 1e-4
    assert len(report.results[0].samples_ms) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("web_runtime")
def test_webgpu_meets_the_golden_pair_by_the_software_adapter(chromium_with_webgpu: Any, digits: Path) -> None:
    report = measured(chromium_with_webgpu, [digits], provider="webgpu", iterations=2, warm_up=1, timeout=LONG)
    (result,) = report.results
    assert (result.runtime, result.error) == ("onnxruntime-web webgpu", None)
    assert result.golden
    assert result.golden.passed
    assert "swiftshader" in str(report.device.accelerator).lower()


@pytest.mark.slow
@pytest.mark.usefixtures("web_runtime")
def test_what_webgpu_would_leave_to_the_cpu_is_an_error(chromium_with_webgpu: Any, hard_colours: Path) -> None:
    served = Visit([hard_colours], dataclasses.replace(OPTIONS, provider="webgpu", timeout=LONG))
    chromium_with_webgpu.driver.get(served.url)
    report = served.report()
    assert "assigned to the default CPU EP" in str(report.results[0].error)

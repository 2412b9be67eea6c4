"""What tests of several modules share: the golden networks, their bundles, one made without any model, a small disk."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from safetensors.torch import save_file
from torch import Tensor

import evm_deploy
from evm_deploy import ExportOptions
from evm_deploy.bundle import Bundle, CheckpointRecord, IOSpec, Manifest, Preprocessing, Sample, write_bundle
from evm_deploy.models import VARIANTS, EfficientVMamba, ModelConfig
from evm_deploy.scan import atrous, native, reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import INDICES, OrderedScanInputs
from evm_deploy.tolerances import DECODED_LEVELS

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in `make test &` of a script; tests send it to others
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FOLDER = Path(__file__).parent / "golden"
DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.safetensors"
MICRO = ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), num_classes=10)


def pytest_collection_finish() -> None:
    """torch.onnx reads the sources of its 500 translations anew at every export, a quarter of its time: here once."""
    if "torch.onnx" not in sys.modules:  # no test here exports
        return
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = cache(ONNXRegistry.from_torchlib)

    def copy_registry(opset_version: int) -> ONNXRegistry:  # to which each export adds its own
        registry = ONNXRegistry()
        registry._opset_version = opset_version
        registry.functions = {target: [*known] for target, known in read(opset_version).functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(copy_registry)  # type: ignore[method-assign, assignment]


class Golden:
    """Golden networks and what they must give."""

    def __init__(self) -> None:
        self.configs = {"micro": MICRO, **VARIANTS}
        spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
        assert spec
        assert spec.loader
        self.weights: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.weights)
        self.outputs = np.load(FOLDER / "outputs.npz")

    @cache  # noqa: B019  # one Golden a session
    def _arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        return self.weights.state_dict(FOLDER / f"state_dict_{name}.json")  # type: ignore[no-any-return]

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        return {k: tuple(s) for k, s in json.loads((FOLDER / f"state_dict_{name}.json").read_text()).items()}

    def state_dict(self, name: str) -> dict[str, Tensor]:
        """A fresh copy of the weights of `name`, such as "tiny" or "backbone_tiny"."""
        return {key: torch.from_numpy(array.copy()) for key, array in self._arrays(name).items()}

    def model(self, name: str, **changes: Any) -> EfficientVMamba:
        config = self.configs[name.removeprefix("backbone_")]
        fields = {"num_classes": None} if name.startswith("backbone_") else {}
        model = EfficientVMamba(ModelConfig(**{**vars(config), **fields, **changes})).eval()
        model.load_state_dict(self.state_dict(name))
        return model

    def image(self, height: int, width: int) -> Tensor:
        return torch.from_numpy(self.weights.image(height, width, seed=height * 1000 + width))

    def error(self, name: str, found: Tensor) -> float:
        """Largest difference of `found` from the golden output `name`."""
        expected = torch.from_numpy(self.outputs[name])
        assert found.shape == expected.shape
        return float((found - expected).abs().max())


@pytest.fixture(scope="session")
def image_kinds() -> tuple[Any, ...]:
    """The table of images in image_kinds.py, rows of its ImageKind."""
    spec = importlib.util.spec_from_file_location("image_kinds", Path(__file__).parent / "image_kinds.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.make_image_kinds()  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def check_pixels() -> Callable[..., None]:
    """Holds what a loader makes of the table against it: check_pixels(loader, formats, kinds, load).

    load(kind) gives uint8 (H, W, 3), or None for a refusal.
    """

    def check(loader: str, formats: Collection[str], kinds: Iterable[Any], load: Callable[[Any], Any]) -> None:
        wrong = {}
        for kind in kinds:
            found, wanted = load(kind), kind.pixels
            if kind.format not in formats or loader in kind.refused_by:
                wanted = None
            if found is None or wanted is None:
                if (found is None) != (wanted is None):
                    wrong[kind.name] = "refused" if found is None else "not refused"
            elif found.shape != wanted.shape:
                wrong[kind.name] = f"{found.shape} for {wanted.shape}"
            elif (most := np.abs(found.astype(int) - wanted).max()) > (DECODED_LEVELS if kind.lossy else 0):
                wrong[kind.name] = f"off by {most}"
        assert not wrong, ", ".join(f"{name} {how}" for name, how in wrong.items())

    return check


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="session")
def exported(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """exported(name, **options): the bundle of "digits" or of the golden network `name`, made once for all tests.

    At 64 pixels and not verified, unless `options` say otherwise. Nobody changes it: take a copy for that.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"  # of all workers
    folder.mkdir(exist_ok=True)

    def export(name: str, **options: Any) -> Bundle:
        asked = ExportOptions(**{"image_size": (64, 64), "verify": False} | options)
        place = folder / f"{name}-{hashlib.sha256(repr(asked).encode()).hexdigest()[:16]}"
        place.mkdir(exist_ok=True)
        out, checkpoint = place / name, DIGITS if name == "digits" else place / f"{name}.safetensors"
        with FileLock(place / "lock"):
            if not out.exists():
                if name != "digits":
                    save_file(golden.state_dict(name), checkpoint)
                evm_deploy.export(checkpoint, out, asked)
        return Bundle.open(out)

    return export


@pytest.fixture(scope="session")
def micro() -> Callable[..., EfficientVMamba]:
    """Networks of MICRO with `changes`, from scratch and always with the same weights."""

    def make(**changes: Any) -> EfficientVMamba:
        torch.manual_seed(0)
        return EfficientVMamba(ModelConfig(**{**vars(MICRO), **changes}))

    return make


@pytest.fixture(scope="session")
def two_stages(micro: Callable[..., EfficientVMamba]) -> Callable[..., EfficientVMamba]:
    """The same of two stages, the first of which scans: half the operations, for what is no matter of size."""
    return lambda **changes: micro(**{"dims": (16, 24), "depths": (1, 1), "blocks": ("evss", "inres")} | changes)


@pytest.fixture(scope="session")
def scan_error() -> Callable[..., float]:
    """Largest error of a `selective_scan` against the reference in float64, as a share of the largest sum of |terms|:
    where terms cancel, float32 cannot do better. scan_error(found, inputs, softplus), inputs in float64.
    """

    def error(found: Tensor, inputs: list[Tensor], softplus: bool = False) -> float:
        u, delta, A, B, C, D, bias = inputs
        expected = reference.run(ScanInputs(*inputs, softplus))
        size = reference.run(ScanInputs(u.abs(), delta, A, B.abs(), C.abs(), D.abs(), bias, softplus))
        return float((found.double() - expected).abs().max() / size.max())

    return error


@pytest.fixture(scope="session")
def scan_2d_error() -> Callable[..., float]:
    """The same of an `efficient_scan_2d`: scan_2d_error(found, inputs, step)."""

    def error(found: Tensor, inputs: list[Tensor], step: int = 2) -> float:
        x, x_proj, dt_proj, dt_bias, A, D = inputs
        R, N = dt_proj.shape[1], A.shape[1]
        u = atrous.gather(x, step)
        delta = (u @ x_proj[..., :R]) @ dt_proj
        _, B, C = (u.abs() @ x_proj.abs()).split([R, N, N], -1)
        size = reference.run(ScanInputs(u.abs(), delta, A, B, C, D.abs(), dt_bias, True))
        expected = reference.run(Scan2DInputs(*inputs, step))
        return float((found.double() - expected).abs().max() / size.max())

    return error


@pytest.fixture(scope="session")
def make_ordered_scan() -> Callable[..., OrderedScanInputs]:
    """Inputs of an `ordered_scan`, whose tokens come in any order, once, more than once or never; so do its results,
    of which none is in two sums. make_ordered_scan(batch, T, K, L, D, N, R, M, seed=0), in float32.
    """

    def make(batch: int, T: int, K: int, L: int, D: int, N: int, R: int, M: int, seed: int = 0) -> OrderedScanInputs:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g)

        return OrderedScanInputs(
            normal(batch, T, D),
            normal(K, D, R + 2 * N) / D**0.5,
            normal(K, R, D),
            normal(K, D) - 1,
            -torch.exp(normal(K, N, D)),
            normal(K, D).abs() + 2,
            torch.randint(T, (K, L), generator=g),
            torch.randperm(K * L, generator=g)[: max(K * L // M, 1) * min(M, K * L)].view(min(M, K * L), -1),
        )

    return make


@pytest.fixture(scope="session")
def ordered_scan_error() -> Callable[..., float]:
    """The largest error of an `ordered_scan` against the reference in float64, relative to the largest |y| of the terms
    without their signs: ordered_scan_error(found, inputs).
    """

    def error(found: Tensor, inputs: OrderedScanInputs) -> float:
        wide = OrderedScanInputs(*(t if name in INDICES else t.double() for name, t in inputs._asdict().items()))

        def run_without_signs(each: ScanInputs) -> Tensor:
            positive = each._replace(u=each.u.abs(), B=each.B.abs(), C=each.C.abs())
            return reference.selective_scan(positive)

        difference = (found.double() - reference.run(wide)).abs()
        return float(difference.max() / wide.through(run_without_signs).max()) if difference.numel() else 0.0

    return error


@pytest.fixture(params=["of another number", "without one"])
def other_library(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Our operator library, as a version with another interface, or one before there was a number, would be."""
    if not native.available():
        pytest.skip("no native library")
    data = native.native_library().read_bytes()
    said, other = native.INTERFACE.encode() + b"\0", b"evm_ops interface 0\0"
    if request.param == "without one":
        said, other = b"\0evm_interface\0", b"\0evm_isxxxxxxx\0"
        data = data.replace(native.INTERFACE.encode(), b"?" * len(native.INTERFACE))
    assert data.count(said) >= 1
    path = tmp_path / "libevm_ops.so"
    path.write_bytes(data.replace(said, other))
    return path


MANIFEST = Manifest(
    task="classification",
    target="onnx",
    precision="fp32",
    model_file="model.onnx",
    inputs=(IOSpec("image", ("batch", 3, 32, 32), "float32", "NCHW", "image"),),
    outputs=(IOSpec("probabilities", ("batch", 3), "float32", "NC", "probabilities", (0.0, 1.0)),),
    preprocessing=Preprocessing((32, 32)),
    checkpoint=CheckpointRecord("tiny.pth", "0" * 64),
    model={"dims": [48, 96], "step": 2},
    scan_form="operator",
    tools={"onnx": "1.20"},
    opset=20,
    parity={"psnr": float("inf")},
)


@pytest.fixture
def manifest() -> Manifest:
    return MANIFEST


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    """Writes a bundle with these contents and opens it: `make_bundle(out, model=b"...", labels=..., **manifest)`."""

    def make(
        out: Path, model: bytes = b"model", labels: tuple[str, ...] = ("cat", "dog", "eel"), **changes: Any
    ) -> Bundle:
        with write_bundle(out, overwrite=changes.pop("overwrite", False)) as draft:
            (draft.path / "model.onnx").write_bytes(model)
            draft.write_sample(Sample(np.zeros((1, 3, 32, 32), np.float32), (np.eye(3, dtype=np.float32),)))
            name = draft.write_labels(labels)
            draft.seal(dataclasses.replace(MANIFEST, labels=name, **changes))
        return Bundle.open(out)

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("mounting a small tmpfs takes rights that this user does not have")
    yield disk
    subprocess.run(["umount", disk], check=True)


class Chromium:
    """A headless Chromium of the tests' own, of the size of a phone; one for the session, a fresh tab for each test."""

    def __init__(self, folder: Path, flags: Iterable[str] = ("disable-gpu",)) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        quiet = [f"disable-{what}" for what in ("quic", "background-networking", "component-update", "sync")]
        for flag in ("headless=new", "no-sandbox", "no-first-run", *quiet, *flags):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={folder}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def look(self, width: int = 390, height: int = 844, dark: bool = False) -> None:
        """As a screen of this size, in CSS pixels, and this colour scheme shows it."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def errors(self) -> list[str]:
        """What the page complained of in the console since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def open_chromium(folder: Path, **options: Any) -> Iterator[Chromium]:
    pytest.importorskip("selenium")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} (Debian: apt install chromium chromium-driver)")
    browser = Chromium(folder, **options)
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def chromium_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    yield from open_chromium(tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def chromium_with_webgpu(tmp_path: Path) -> Iterator[Chromium]:
    """WebGPU by Chromium's software adapter."""
    flags = ("enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader", "enable-features=Vulkan")
    yield from open_chromium(tmp_path / "chromium", flags=flags)


@pytest.fixture
def chromium(chromium_of_session: Chromium) -> Iterator[Chromium]:
    driver = chromium_of_session.driver
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    chromium_of_session.look()
    chromium_of_session.errors()
    yield chromium_of_session
    driver.close()
    driver.switch_to.window(first)

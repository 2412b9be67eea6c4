"""The folder for Linux and Jetson: what is in it without any compiler, and the Python loader."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from evm_deploy import compiling
from evm_deploy.bundle import Bundle, IOSpec, Sample, write_bundle
from evm_deploy.exporters.tensorrt.script import SCRIPT
from evm_deploy.manifest import Manifest, Preprocessing
from evm_deploy.packaging import cross, linux
from evm_deploy.packaging.package import Package
from evm_deploy.packaging.vectors import write_vectors
from evm_deploy.scan import native
from evm_deploy.tasks import describe_image
from evm_deploy.tolerances import PARITY, ROUNDED

Maker = Callable[..., Package]
COLOURS = ("red", "green", "blue")


@pytest.fixture
def colours(tmp_path: Path, manifest: Manifest) -> Path:
    """A bundle that runs: the class of an image is its strongest colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 48])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    extra = numpy_helper.from_array(np.zeros(1, np.float32), "unused")
    graph = helper.make_graph(nodes, "colours", [image], [logits], [extra])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    values = np.random.default_rng(0).standard_normal((1, 3, 32, 48)).astype(np.float32)
    fields = vars(manifest) | {
        "inputs": (IOSpec("image", (1, 3, 32, 48), "float32", "NCHW", "image"),),
        "outputs": (IOSpec("logits", (1, 3), "float32", "NC", "logits"),),
        "preprocessing": Preprocessing((32, 48), crop_pct=0.9),
        "labels": "labels.txt",
        "parity": None,
    }
    with write_bundle(tmp_path / "colours") as draft:
        (draft.path / "model.onnx").write_bytes(model.SerializeToString())
        draft.write_labels(COLOURS)
        draft.write_sample(Sample(values, (values.mean((2, 3)),)))
        draft.seal(Manifest(**fields))
    return tmp_path / "colours"


@pytest.fixture
def packed(pack: Maker, tmp_path: Path, colours: Path) -> Path:
    pack(tmp_path / "out", bundles=[colours])
    return tmp_path / "out"


def python(packed: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-B", packed / "python/evm_model.py", *words]
    return subprocess.run(list(map(str, program)), capture_output=True, text=True, check=False)


def picture(path: Path, colour: str, size: tuple[int, int] = (90, 40)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def test_the_python_loader(packed: Path, tmp_path: Path) -> None:
    model = packed / "models/colours"
    golden = python(packed, "--golden", model)
    assert golden.returncode == 0, golden.stderr
    assert "passed" in golden.stdout
    for colour in COLOURS:
        found = python(packed, model, picture(tmp_path / f"{colour}.png", colour), "--top", "1")
        assert found.stdout.split()[-1] == colour


def test_an_operator_library_of_another_interface(
    packed: Path, other_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = packed / "models/colours"
    assert "onnxruntime + evm_ops: relative error" in python(packed, "--golden", model).stdout
    monkeypatch.setenv("EVM_OPS_LIBRARY", str(other_library))
    found = python(packed, "--golden", model)
    said = f"evm_model: {other_library} is not the operator library of this package ({native.INTERFACE}): "
    assert (found.returncode, found.stderr.partition(")")[0]) == (2, said.partition(")")[0])
    assert len(found.stderr.splitlines()) == 1
    monkeypatch.setenv("EVM_OPS_LIBRARY", str(packed / "absent.so"))
    assert "does not load" in python(packed, "--golden", model).stderr


@pytest.fixture
def loader(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The Python loader of the package, as an app imports it."""
    monkeypatch.syspath_prepend(packed / "python")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("evm_model")
    for name in [name for name in sys.modules if name.startswith("evm_") and not name.startswith("evm_deploy")]:
        del sys.modules[name]


def test_every_kind_of_image(
    loader: ModuleType, packed: Path, tmp_path: Path, image_kinds: Any, check_pixels: Any
) -> None:
    model = loader.Model(packed / "models/colours")
    steps = loader.Steps([1, 1], 1.0, "nearest", "RGB", [0.0] * 3, [1.0] * 3, True, resize="squash")
    (tmp_path / "kinds").mkdir()

    def load(kind: Any) -> np.ndarray | None:
        path = tmp_path / "kinds" / kind.name
        path.write_bytes(kind.data)
        height, width = (32, 32) if kind.pixels is None else kind.pixels.shape[:2]
        model._steps = dataclasses.replace(steps, image_size=[height, width])  # which leaves the pixels as they are
        try:
            found: np.ndarray = model.preprocess(path)[0]
        except loader.ModelError:
            return None
        return found

    check_pixels("python", {"png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm", "pnm"}, image_kinds, load)


def test_the_python_loader_prepares_images_as_we_do(loader: ModuleType, tmp_path: Path) -> None:
    write_vectors(tmp_path / "vectors")
    for case in json.loads((tmp_path / "vectors/cases.json").read_text()):
        image, expected = (np.load(tmp_path / "vectors" / case[name]) for name in ("image", "input"))
        exif = Image.Exif()
        exif[0x0112] = case["orientation"]
        Image.fromarray(image).save(tmp_path / "image.png", exif=exif)
        pixels = loader.decode_image((tmp_path / "image.png").read_bytes())
        np.testing.assert_array_equal(loader.Steps(**case["preprocessing"]).apply(pixels), expected)


def test_the_python_loader_refuses_what_it_does_not_know(loader: ModuleType) -> None:
    steps = dataclasses.asdict(Preprocessing((32, 48)))
    before = {name: value for name, value in steps.items() if name not in ("resize", "fill")}
    assert loader.Steps(**before) == loader.Steps(**steps)
    for change in ({"resize": "stretch"}, {"interpolation": "box"}, {"channels": "GBR"}, {"gamma": 2.2}, {"fill": 9}):
        with pytest.raises((ValueError, TypeError)):
            loader.Steps(**{**steps, **change})


def test_the_python_loader_refuses_manifests_of_others(loader: ModuleType, packed: Path) -> None:
    path = packed / "models/colours/manifest.json"
    good = json.loads(path.read_text())
    hostile: list[Any] = [
        [], {}, *({name: value for name, value in good.items() if name != left_out} for left_out in
                  ("files", "inputs", "outputs", "preprocessing", "model_file", "scan_form", "labels")),
        *({**good, name: wrong} for name in ("files", "inputs", "outputs", "preprocessing", "model_file", "labels")
          for wrong in (3, ["x"], "x")),
    ]  # fmt: skip
    for manifest in hostile:
        path.write_text(json.dumps(manifest))
        with pytest.raises(loader.ModelError):
            loader.Model(path.parent)


def test_the_python_loader_takes_the_tolerance_of_a_deep_network(loader: ModuleType, packed: Path) -> None:
    model = loader.Model(packed / "models/colours")
    assert model._find_tolerance() == PARITY["fp32"]
    model.manifest["precision"] = "fp16"
    for said, wanted in ((0.008, 0.008), (0.5, PARITY["fp16"]), ("0.008", PARITY["fp16"])):
        model.manifest["build"] = {"tolerance": said}
        assert model._find_tolerance() == wanted


@pytest.mark.parametrize(
    ("scores", "meaning"),
    [
        ([[1.0]], "logits"),
        ([[1.0, 2.0]], "logits"),
        ([[1.0, np.nan, 0.0]], "logits"),
        ([[0.5, 1.5, 0.0]], "probabilities"),
        ([[-0.5, 0.5, 0.0]], "probabilities"),
    ],
)
def test_the_python_loader_refuses_what_are_no_scores(
    loader: ModuleType, packed: Path, tmp_path: Path, scores: Any, meaning: str
) -> None:
    model = loader.Model(packed / "models/colours")
    model._outputs = {"scores": meaning}
    model.run = lambda array: [np.array(scores, np.float32)]
    with pytest.raises(loader.ModelError, match="gives no"):
        model.classify(picture(tmp_path / "red.png", "red"))


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "sample/input.npy"])
def test_the_python_loader_finds_a_changed_byte(packed: Path, name: str) -> None:
    path = packed / "models/colours" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    found = python(packed, "--golden", packed / "models/colours")
    assert found.returncode == 2
    assert "its sha256 differs" in found.stderr
    assert "Traceback" not in found.stderr


def test_the_python_loader_refuses_strangers(packed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    for words in ([packed / "models/colours", text], [tmp_path, text], [packed / "models/colours", "nowhere.png"]):
        found = python(packed, *words)
        assert found.returncode == 2
        assert "Traceback" not in found.stderr


def test_the_loaders_know_our_tolerances(packed: Path) -> None:
    for file in ("python/evm_model.py", "src/bundle.cpp"):
        text = (packed / file).read_text()
        for name, value in (PARITY | ROUNDED).items():
            assert f'"{name}": {value!r}' in text or f'{{"{name}", {value!r}}}' in text


@pytest.mark.skipif(not native.available(), reason="the operator library is not built here")
def test_the_library_of_this_machine_is_in_it(packed: Path) -> None:
    library = packed / f"lib/linux-{platform.machine()}/libevm_ops.so"
    assert library.read_bytes() == native.native_library().read_bytes()


def test_what_is_not_in_it_is_said(pack: Maker, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "operator library for aarch64 is not in this package" in (packed / "README.md").read_text()
    assert (packed / "native/CMakeLists.txt").is_file()
    monkeypatch.setattr(native, "available", lambda: False)
    made = pack(tmp_path / "portable")
    assert sum("is not in this package" in note for note in made.index.notes) == 2
    assert not (tmp_path / "portable/lib").exists()


def test_a_library_for_the_other_processor(pack: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(machine: str, out: Path) -> None:
        out.write_bytes(b"\x7fELF GLIBC_2.17\0GLIBC_2.3\0")

    monkeypatch.setattr(compiling, "find_zig_version", lambda: "0.17")
    monkeypatch.setattr(cross, "build_library", build)
    made = pack(tmp_path / "out")
    assert made.index.tools["ziglang"] == "0.17"
    assert "The operator library for aarch64 needs glibc 2.17 or newer." in made.index.notes


def test_a_jetson_gets_scripts_for_engines(
    pack: Maker, tmp_path: Path, colours: Path, make_bundle: Callable[..., Bundle]
) -> None:
    integers = make_bundle(tmp_path / "integers", precision="int8").path
    sizes = make_bundle(tmp_path / "sizes", inputs=(describe_image(("height", "width"), baked=False),)).path
    made = pack(tmp_path / "out", "jetson", [colours, integers, sizes])
    script = tmp_path / "out/engines/colours.sh"
    assert script.stat().st_mode & 0o111
    assert "engines/colours.sh" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out/engines/integers.sh").exists()
    assert any("does not accept the INT8 form of integers" in note for note in made.index.notes)
    assert not (tmp_path / "out/engines/sizes.sh").exists()
    assert any("sizes is for images of any size" in note for note in made.index.notes)
    tool = tmp_path / "trtexec"
    tool.write_text(
        '#!/bin/sh\nfor word; do case $word in --onnx=*) test -f "${word#--onnx=}";; '
        '--saveEngine=*) echo engine >"${word#--saveEngine=}";; esac || exit 1; done\n'
    )
    tool.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([script, tmp_path / "colours.engine"], env=environment, check=True)
    assert (tmp_path / "colours.engine").read_text() == "engine\n"


def test_a_bundle_for_tensorrt_has_its_own_script(
    pack: Maker, tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    made = make_bundle(tmp_path / "engine", target="tensorrt")
    with write_bundle(tmp_path / "with_script") as draft:
        shutil.copytree(made.path, draft.path, dirs_exist_ok=True)
        (draft.path / SCRIPT).write_text("#!/bin/sh\n")
        draft.seal(made.manifest)
    pack(tmp_path / "out", "jetson", [tmp_path / "with_script"])
    assert (tmp_path / "out/models/with_script" / SCRIPT).stat().st_mode & 0o111
    assert not (tmp_path / "out/engines").exists()


def test_an_installation_without_sources(pack: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evm_deploy.errors import MissingToolError

    def missing(folder: Path) -> None:
        raise MissingToolError("no sources.", "install them.")

    monkeypatch.setattr(linux, "copy_native_sources", missing)
    with pytest.raises(MissingToolError, match="no sources"):
        pack(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_compiler_says_why_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evm_deploy.errors import MissingToolError

    monkeypatch.setattr(compiling, "find_zig_version", lambda: None)
    with pytest.raises(MissingToolError, match="ziglang"):
        cross.build_library("aarch64", tmp_path / "out")
    fail = subprocess.CompletedProcess([], 1, "", "many lines\nerror: no such thing\n")
    monkeypatch.setattr(compiling, "find_zig_version", lambda: "0.17")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **more: fail)
    with pytest.raises(MissingToolError, match="error: no such thing"):
        cross.build_library("aarch64", tmp_path / "out")

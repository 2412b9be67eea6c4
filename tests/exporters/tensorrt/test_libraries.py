"""Which library builds, and for which GPUs: what is asked for is found, or refused with the nearest."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from evm_deploy.errors import MissingToolError, OptionError
from evm_deploy.exporters.tensorrt import libraries

RTX = SimpleNamespace(
    __name__="tensorrt_rtx",
    __version__="1.7",
    ComputeCapability=SimpleNamespace(__members__=dict.fromkeys(["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM120"])),
)


def modules(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, **found: Any) -> None:
    """A machine on which these modules can be imported, and no others of the table; None: it cannot be loaded."""
    monkeypatch.setattr(libraries, "has_gpu", lambda: gpu)
    for row in libraries.LIBRARIES:
        monkeypatch.setitem(sys.modules, row.module, found.get(row.module))


def test_tensorrt_is_taken_where_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    both: dict[str, Any] = {row.module: SimpleNamespace(Builder=None) for row in libraries.LIBRARIES}
    modules(monkeypatch, gpu=True, **both)
    assert libraries.find_library().library is both["tensorrt"]
    modules(monkeypatch, gpu=False, **both)
    assert libraries.find_library().library is both["tensorrt_rtx"]
    assert libraries.find_library().reasons == ("tensorrt needs a GPU, and there is none",)


def test_without_any_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    modules(monkeypatch, gpu=True)
    found = libraries.find_library()
    assert found.library is None
    with pytest.raises(MissingToolError, match=r"tensorrt is not .*; tensorrt_rtx is not installed.*pip install"):
        found.require("an engine")


def test_a_library_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    modules(monkeypatch, gpu=True)
    monkeypatch.setattr(libraries.importlib, "import_module", broken)
    assert (
        libraries.find_library().reasons[0]
        == "tensorrt cannot be loaded (libcudart.so.13: cannot open shared object file)"
    )


def test_an_empty_folder_of_its_name_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    modules(monkeypatch, gpu=False, tensorrt_rtx=ModuleType("tensorrt_rtx"))
    found = libraries.find_library()
    assert found.library is None
    assert "tensorrt_rtx cannot be loaded" in found.reasons[1]


@pytest.mark.parametrize("text", ["8.6", "86", "sm_86", "SM86", " 8.6 "])
def test_ways_to_write_a_capability(text: str) -> None:
    assert libraries.choose_capabilities([text], RTX) == ("8.6",)


def test_capabilities_come_in_one_order_and_once() -> None:
    assert libraries.choose_capabilities(["12.0", "sm_80", "8.0", "120"], RTX) == ("8.0", "12.0")
    assert libraries.choose_capabilities([], RTX) == ("8.0", "8.6", "12.0")  # Turing cannot multiply in float32 there


@pytest.mark.parametrize(
    ("typo", "nearest"),
    [
        ("8.9.1", "8.6"),
        ("sm_86x", "8.6"),
        ("7.1", "8.0"),
        ("7.5", "8.0"),
        ("8.7", "8.6"),
        ("12", "8.0"),
        ("", r"\d+\.\d"),
    ],
)
def test_a_typo_gets_the_nearest_and_the_offer(typo: str, nearest: str) -> None:
    with pytest.raises(OptionError, match=rf"only for 8\.0, 8\.6, 12\.0\. Fix: did you mean {nearest}\?") as error:
        libraries.choose_capabilities(["8.6", typo], RTX)
    assert "\n" not in str(error.value)


def test_on_a_gpu_tensorrt_builds_for_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 7))
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.3")
    assert libraries.choose_capabilities([], trt) == ("8.7",)
    with pytest.raises(OptionError, match=r"did you mean 8\.7"):
        libraries.choose_capabilities(["9.0"], trt)


def test_the_offer_of_the_installed_library() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert {"8.6", "8.9", "12.0"} <= set(libraries.list_capabilities(trt))

"""What runs a bundle on a machine that tells these facts of itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import BundleError, DeviceError
from evm_deploy.profiling.devices import library
from evm_deploy.profiling.devices.contenders import ON_THE_CPU
from evm_deploy.profiling.devices.library import OperatorLibrary
from evm_deploy.profiling.devices.ways import RemoteWays
from evm_deploy.profiling.profile_options import ProfileOptions

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SERVER = {"numpy": "2.0", "onnxruntime": "1.20", "providers": [CUDA, CPU], "trtexec": None}
JETSON = {"numpy": "1.26", "trtexec": "/usr/src/tensorrt/bin/trtexec"}
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> Callable[[OperatorLibrary], None]:
    """What of our operators the machine can take; the library of this machine by default."""

    def be(found: OperatorLibrary) -> None:
        monkeypatch.setattr(library, "find_library", lambda facts, host: found)

    be(OperatorLibrary(Path("/here/libevm_ops.so")))
    return be


def names(facts: dict[str, Any], bundle: Any, **options: Any) -> list[tuple[str, str, str | None]]:
    found = RemoteWays(facts, "board", ProfileOptions(**options)).list_contenders("net", bundle)
    return [(one.name, one.runner, one.library) for one in found]


def test_the_best_way_and_every_way(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "net")
    ours = "library/libevm_ops.so"
    assert names(SERVER, bundle) == [("net", "onnxruntime", ours)]
    assert names(SERVER, bundle, library=False) == [("net", "onnxruntime", None)]
    assert names(JETSON, bundle) == [("net", "trtexec", None)]
    assert names({**SERVER, **JETSON}, bundle) == [("net", "onnxruntime", ours)]
    assert names({**SERVER, **JETSON}, bundle, every_way=True) == [
        ("net on onnxruntime", "onnxruntime", None),
        ("net on onnxruntime + evm_ops", "onnxruntime", ours),
        ("net on trtexec", "trtexec", None),
    ]


def test_trtexec_is_named_where_it_was_found(make_bundle: Make, tmp_path: Path) -> None:
    (one,) = RemoteWays(JETSON, "board", ProfileOptions()).list_contenders(
        "net", make_bundle(tmp_path / "net", target="tensorrt")
    )
    assert one.more == {"trtexec": "/usr/src/tensorrt/bin/trtexec"}


def test_a_graph_without_our_operators_needs_none(
    make_bundle: Make, tmp_path: Path, ours: Callable[[OperatorLibrary], None]
) -> None:
    ours(OperatorLibrary(None, ("portable",)))
    (one,) = RemoteWays(SERVER, "board", ProfileOptions()).list_contenders(
        "net", make_bundle(tmp_path / "net", scan_form="inlined")
    )
    assert (one.library, one.notes) == (None, ())
    (one,) = RemoteWays(SERVER, "board", ProfileOptions()).list_contenders("net", make_bundle(tmp_path / "other"))
    assert (one.library, one.notes) == (None, ("portable",))


def test_another_provider_runs_the_portable_form_and_says_so(make_bundle: Make, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "net")
    for asked in ("cuda", "CUDAExecutionProvider"):
        (one,) = RemoteWays(SERVER, "board", ProfileOptions(provider=asked)).list_contenders("net", bundle)
        assert (one.provider, one.library, one.notes) == (CUDA, None, (ON_THE_CPU,))
    with pytest.raises(DeviceError, match="no provider 'rocm'") as error:
        RemoteWays(SERVER, "board", ProfileOptions(provider="rocm"))
    assert error.value.fix == "choose one of: cuda, cpu."


@pytest.mark.parametrize(
    ("facts", "cause"),
    [({}, "no numpy"), ({"trtexec": "/x"}, "no numpy"), ({"numpy": "2.0"}, "neither onnxruntime nor trtexec")],
)
def test_a_machine_with_nothing_to_run_on(facts: dict[str, Any], cause: str) -> None:
    with pytest.raises(DeviceError, match=cause):
        RemoteWays(facts, "board", ProfileOptions())


def test_bundles_that_do_not_run_there(make_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is for coreml"):
        names(SERVER, make_bundle(tmp_path / "apple", target="coreml"))
    with pytest.raises(DeviceError, match="board has no trtexec"):
        names(SERVER, make_bundle(tmp_path / "engine", target="tensorrt"))

"""Ctrl-C ends a build, although the library swallows what is raised in its callbacks."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.exporters import onnx as exporter
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.exporters.record import make_manifest
from evm_deploy.exporters.tensorrt import build
from evm_deploy.exporters.tensorrt.interrupt import make_monitor, run_interruptibly
from evm_deploy.exporters.tensorrt.shapes import Profile
from evm_deploy.models.module import open_module


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_result_and_errors_pass() -> None:
    assert run_interruptibly(lambda stop: 1 + stop.is_set()) == 1
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda stop: 1 / stop.is_set())


def test_the_work_is_told_and_waited_for() -> None:
    said = []

    def work(stop: threading.Event) -> None:
        interrupt()
        said.append(stop.wait(30))
        raise ValueError("it was stopped")

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work)
    assert said == [True]


def test_a_build_is_given_up(golden: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    shape, options = (1, 3, 64, 64), ExportOptions(target="tensorrt", image_size=(64, 64))
    network = open_module(golden.model("micro"))
    graph = exporter.export(network, make_manifest(network, options), options).SerializeToString()
    request = build.EngineRequest(graph, "fp32", Profile("image", shape, shape, shape), ("8.6",), 2)
    configured, log, finished = build._make_config, tmp_path / "failed.log", list[Any]()

    def configure(*args: Any) -> Any:
        interrupt()
        return configured(*args)

    monkeypatch.setattr(build, "_make_config", configure)
    monkeypatch.setattr(build, "_inspect", lambda *given: finished.append(given))
    with pytest.raises(KeyboardInterrupt):
        build.build_engine(trt, request, log)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build")]
    assert not finished
    assert not log.exists()


def test_the_monitor_lets_a_build_go_on_until_it_is_stopped() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    stop = threading.Event()
    asked = make_monitor(trt, stop)
    assert asked.step_complete("phase", 1)
    stop.set()
    assert not asked.step_complete("phase", 2)

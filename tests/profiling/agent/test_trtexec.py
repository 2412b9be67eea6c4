"""trtexec, by a stand-in that takes the same arguments and writes the same files."""

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evm_deploy.bundle import Bundle
from evm_deploy.profiling.agent.bundle_files import Unmeasurable
from evm_deploy.profiling.agent.profile import make_profile
from evm_deploy.profiling.agent.request import AgentRequest
from evm_deploy.profiling.agent.runners import ROWS
from evm_deploy.profiling.agent.trtexec import read_outputs, read_times
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.requests import DeviceContender, write_request
from evm_deploy.profiling.summaries import add_summaries

STAND_IN = """#!{python}
import json, os, sys
import numpy
given = dict(each.lstrip("-").partition("=")[::2] for each in sys.argv[1:])
with open({log!r}, "a") as log: log.write(json.dumps(given) + "\\n")
print("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # " + " ".join(sys.argv))
if "onnx" in given:
    if {fail}:
        print("[E] Error[4]: the parser knows no such operator"); sys.exit(1)
    assert os.path.getsize(given["onnx"])
    open(given["saveEngine"], "w").write("engine")
else:
    assert open(given["loadEngine"]).read() == "engine"
    name, path = given["loadInputs"].split(":")
    image = numpy.fromfile(path, numpy.float32).reshape(1, 3, 32, 32)
    print("[I] Engine deserialized in 0.0125 sec.")
    runs = max(int(given["iterations"]), 50 if float(given["duration"]) else 0)
    rows = [{{"startComputeMs": i, "endComputeMs": i + 1, "latencyMs": 1.5 + i % 3}} for i in range(runs)]
    json.dump(rows, open(given["exportTimes"], "w"))
    values = [float(value) for value in numpy.load({golden!r}).ravel() + {off}]
    out = [{{"name": "probabilities", "dimensions": "3x3", "values": values}}]
    json.dump(out, open(given["exportOutput"], "w"))
print("&&&& PASSED")
"""


@pytest.fixture
def told(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[Any]]]:
    """The profile of a bundle by the stand-in, and the arguments of each of its runs."""

    def run(off: float = 0.0, fail: bool = False, **options: Any) -> tuple[dict[str, Any], list[Any]]:
        bundle = make_bundle(tmp_path / "net", target="tensorrt")
        program, log = tmp_path / "trtexec", tmp_path / "log"
        golden = str(bundle.path / "sample/output.npy")
        text = STAND_IN.format(python=sys.executable, log=str(log), golden=golden, off=off, fail=fail)
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        contender = DeviceContender("net", bundle, "net", "trtexec", more={"trtexec": str(program)})
        asked = AgentRequest(json.loads(write_request("ssh", [contender], ProfileOptions(**options))))
        found = make_profile(asked, ROWS, lambda index: {}, lambda stage: None)
        return found, [json.loads(line) for line in log.read_text().splitlines()]

    return run


def test_an_engine_is_built_and_timed(told: Callable[..., tuple[dict[str, Any], list[Any]]]) -> None:
    found, (build, run) = told(iterations=12)
    report = add_summaries(ProfileReport.from_json(json.dumps(found).encode()))
    (result,) = report.results
    assert result.error is None
    assert (result.runtime, result.load_ms, len(result.samples_ms)) == ("trtexec", 12.5, 12)
    assert result.golden
    assert result.golden.passed
    assert not report.method.interleaved
    assert report.conditions.versions["tensorrt"] == "100300"
    assert "stronglyTyped" in build
    assert build["optShapes"] == "image:1x3x32x32"  # the batch of this bundle is dynamic
    assert (run["iterations"], run["duration"]) == ("12", "0")
    assert "exposeDMA" in run


def test_seconds_instead_of_iterations(told: Callable[..., tuple[dict[str, Any], list[Any]]]) -> None:
    found, (_, run) = told(seconds=2.5)
    assert (run["iterations"], run["duration"]) == ("1", "2.5")
    assert len(found["results"][0]["samples_ms"]) == 50


def test_a_wrong_answer_has_no_times(told: Callable[..., tuple[dict[str, Any], list[Any]]]) -> None:
    result = told(off=0.5)[0]["results"][0]
    assert "golden pair is off by 5.0e-01" in result["error"]
    assert result["samples_ms"] == []


def test_an_engine_that_cannot_be_built(told: Callable[..., tuple[dict[str, Any], list[Any]]]) -> None:
    result = told(fail=True)[0]["results"][0]
    assert result["error"] == "trtexec failed: [E] Error[4]: the parser knows no such operator"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"latencyMs": "slow"}]', '[{"latencyMs": NaN}]'])
def test_times_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(Unmeasurable):
        read_times(tmp_path / "file")
    with pytest.raises(Unmeasurable):
        read_outputs(tmp_path / "file", ["a"], [np.ones(1)])

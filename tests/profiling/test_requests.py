"""What the agent is asked, and the agent as one file."""

import ast
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import evm_deploy.profiling.agent
from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.profiling.agent import request as agents
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.requests import DeviceContender, open_bundles, write_request
from evm_deploy.profiling.zipped import write_agent

AGENT = sorted(Path(evm_deploy.profiling.agent.__file__).parent.glob("*.py"))
ALLOWED = {"numpy", "onnxruntime"}


def test_the_agent_reads_what_is_asked(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "net")
    contender = DeviceContender("net on it", bundle, "net", "onnxruntime", library="lib.so", notes=("a note",))
    options = ProfileOptions(iterations=7, warm_up=3, threads=2, affinity=(0,))
    (tmp_path / "request.json").write_text(write_request("ssh", [contender], options, lambda bundle: "there/0"))
    found = agents.read_request(tmp_path / "request.json")
    assert (found.device, found.iterations, found.seconds, found.threads, found.affinity) == ("ssh", 7, None, 2, [0])
    (one,) = found.contenders
    assert (one.name, one.bundle, str(one.folder), one.library) == ("net on it", "net", "there/0", "lib.so")
    assert one.sha256 == hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()
    assert one.tolerance == 1e-4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "options": 3, "contenders": []}'])
def test_the_agent_refuses_what_is_no_request(tmp_path: Path, text: str) -> None:
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(agents.RequestError):
        agents.read_request(tmp_path / "request.json")


def test_every_bundle_has_a_name_of_its_own(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    paths = [make_bundle(tmp_path / name).path for name in ("a/net", "b/net", "other")]
    assert [name for name, _ in open_bundles([paths[0], paths[2]])] == ["net", "other"]
    assert [name for name, _ in open_bundles(paths)] == [str(paths[0]), str(paths[1]), "other"]
    assert [name for name, _ in open_bundles([paths[2], paths[2], paths[2]])] == ["other", "other (2)", "other (3)"]


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        open_bundles([tmp_path])


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    assert write_agent(tmp_path / "one.pyz").read_bytes() == write_agent(tmp_path / "two.pyz").read_bytes()
    names = zipfile.ZipFile(tmp_path / "one.pyz").namelist()
    assert "__main__.py" in names
    assert len(names) == len(AGENT)


def test_the_archive_needs_nothing_of_this_package(tmp_path: Path) -> None:
    """It says why it cannot measure, in one line, where even the request is missing."""
    path = write_agent(tmp_path / "agent.pyz")
    done = subprocess.run([sys.executable, "-I", path, "none", "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: none is not a request")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", AGENT, ids=lambda path: path.name)
def test_the_agent_is_of_python_3_8_and_imports_little(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    assert path.name == "__init__.py" or "from __future__ import annotations" in text
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        for name in names:
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or top in ALLOWED
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1  # nothing of the package around it


NEWER = ("removeprefix", "removesuffix", "is_relative_to", "with_stem", "bit_count", "pairwise")


@pytest.mark.parametrize("path", AGENT, ids=lambda path: path.name)
def test_the_agent_calls_nothing_that_3_8_does_not_have(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Attribute) and node.attr in NEWER)
        if isinstance(node, ast.Call):
            assert "strict" not in {keyword.arg for keyword in node.keywords}
    names = _made_when_imported(ast.parse(path.read_text(encoding="utf-8")))
    assert not names & {"list", "dict", "tuple", "set", "Callable", "Sequence", "Mapping"}


def _made_when_imported(tree: ast.Module) -> set[str]:
    """What is subscripted outside of annotations, which 3.8 would have to compute: `list[int]` as a value."""
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for side in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if side is not None
        for inner in ast.walk(side)
    }
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and id(node) not in annotations | typed
    }


def test_a_request_is_stable_text(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    one = [DeviceContender("net", make_bundle(tmp_path / "net"), "net", "onnxruntime")]
    assert write_request("local", one, ProfileOptions()) == write_request("local", one, ProfileOptions())
    assert json.loads(write_request("local", one, ProfileOptions()))["version"] == agents.VERSION

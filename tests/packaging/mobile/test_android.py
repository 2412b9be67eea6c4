"""The Gradle project: what is in it, and that parsers of its languages read it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.packaging import android
from evm_deploy.packaging.contents import NamedBundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.reserved import KOTLIN_PACKAGES
from evm_deploy.packaging.sources import native_sources

MakeNamed = Callable[..., list[NamedBundle]]
Mistakes = Callable[[str, str], list[str]]
OPTIONS = PackageOptions("android", name="Animals")
ANDROID = "{http://schemas.android.com/apk/res/android}"
WRITTEN = ("*.kt", "*.kts", "*.xml", "*.toml", "*.properties", "*.pro")  # what the package's words stand in


def written(folder: Path) -> dict[str, str]:
    """Every text that was made of a template."""
    paths = [path for kind in WRITTEN for path in folder.rglob(kind)]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_a_bundle_lies_whole_among_the_assets(make_named: MakeNamed, tmp_path: Path) -> None:
    contents = android.write(make_named("cats", "dogs"), tmp_path, OPTIONS, print)
    assert contents.models == {name: f"model/src/main/assets/evm/{name}" for name in ("cats", "dogs")}
    for place in contents.models.values():
        assert Bundle.open(tmp_path / place).labels() == ("cat", "dog", "eel")


def test_every_kotlin_file_parses(make_named: MakeNamed, mistakes: Mistakes, tmp_path: Path) -> None:
    android.write(make_named("cats", "object", "val", "name"), tmp_path, OPTIONS, print)
    texts = {name: text for name, text in written(tmp_path).items() if name.endswith((".kt", ".kts"))}
    assert len(texts) > 15
    assert {name: mistakes("kotlin", text) for name, text in texts.items()} == {name: [] for name in texts}


def test_a_broken_file_would_be_found(make_named: MakeNamed, mistakes: Mistakes, tmp_path: Path) -> None:
    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    text = (tmp_path / "model/src/main/kotlin/Model.kt").read_text()
    assert mistakes("kotlin", text.replace("enum class Model(", "enum class Model"))


def test_no_place_of_a_template_is_left_open(make_named: MakeNamed, tmp_path: Path) -> None:
    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    assert not [name for name, text in written(tmp_path).items() if re.search("@[A-Z][A-Z0-9_]*@", text)]


def test_the_enumeration_names_every_model_with_its_tolerance(make_named: MakeNamed, tmp_path: Path) -> None:
    android.write(make_named("cats", "class"), tmp_path, OPTIONS, print)
    text = (tmp_path / "model/src/main/kotlin/Model.kt").read_text()
    assert '    CATS("cats", 0.0001),\n    CLASS("class", 0.0001),\n' in text


def test_the_manifests_are_xml_and_the_app_can_be_started_from_outside(make_named: MakeNamed, tmp_path: Path) -> None:
    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    assert ElementTree.parse(tmp_path / "model/src/main/AndroidManifest.xml").getroot().tag == "manifest"
    activities = ElementTree.parse(tmp_path / "benchmark/src/main/AndroidManifest.xml").findall("application/activity")
    (activity,) = activities
    assert activity.get(f"{ANDROID}name") == ".BenchmarkActivity"
    assert activity.get(f"{ANDROID}exported") == "true"
    assert 'applicationId = "org.evmdeploy.benchmark"' in (tmp_path / "benchmark/build.gradle.kts").read_text()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_catalogue_has_what_the_build_files_name(make_named: MakeNamed, tmp_path: Path) -> None:
    import tomllib

    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    catalogue = tomllib.loads((tmp_path / "gradle/libs.versions.toml").read_text())
    assert catalogue["versions"]["onnxruntime"] == android.VERSIONS["onnxruntime-android"]
    rows = [*catalogue["libraries"].values(), *catalogue["plugins"].values()]
    assert {row["version"]["ref"] for row in rows} == set(catalogue["versions"])
    builds = "".join(path.read_text() for path in tmp_path.rglob("build.gradle.kts"))
    named = set(re.findall(r"libs\.([a-z.]+)\)", builds))
    offered = {name.replace("-", ".") for name in catalogue["libraries"]}
    offered |= {f"plugins.{name.replace('-', '.')}" for name in catalogue["plugins"]}
    assert named <= offered


def test_the_sources_of_the_operators_are_all_there(make_named: MakeNamed, tmp_path: Path) -> None:
    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    copied = tmp_path / "model/src/main/cpp"
    names = {path.name for path in native_sources().iterdir() if path.suffix != ".cu"}
    assert {path.name for path in copied.iterdir()} == names
    assert all((copied / name).read_bytes() == (native_sources() / name).read_bytes() for name in names)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_reads_them_as_gradle_calls_it(make_named: MakeNamed, tmp_path: Path) -> None:
    android.write(make_named("cats"), tmp_path, OPTIONS, print)
    source, build = tmp_path / "model/src/main/cpp", tmp_path / "build"
    done = subprocess.run(["cmake", "-S", source, "-B", build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["cmake", "--build", build, "--target", "help"], capture_output=True, text=True, check=True)
    assert "evm_ops" in listed.stdout
    assert '"evm_ops"' in (tmp_path / "model/build.gradle.kts").read_text()


def test_labels_are_data_and_nothing_else(make_named: MakeNamed, tmp_path: Path, hostile: tuple[str, ...]) -> None:
    android.write(make_named("cats"), tmp_path / "plain", OPTIONS, print)
    contents = android.write(make_named("cats", labels=hostile), tmp_path / "hostile", OPTIONS, print)
    assert written(tmp_path / "plain") == written(tmp_path / "hostile")
    assert Bundle.open(tmp_path / "hostile" / contents.models["cats"]).labels() == hostile


def test_the_same_bundles_give_the_same_bytes(make_named: MakeNamed, tmp_path: Path) -> None:
    found = []
    for place in (tmp_path / "a", tmp_path / "b"):
        android.write(make_named("cats"), place, OPTIONS, print)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        found.append({path.relative_to(place): path.read_bytes() for path in files})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["class", "In", "benchmark", "Object"])
def test_a_name_that_is_no_kotlin_package_is_refused(make_named: MakeNamed, tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="Kotlin"):
        android.write(make_named("cats"), tmp_path / "out", PackageOptions("android", name=name), print)
    assert not (tmp_path / "out").exists()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,39}", fullmatch=True))
def test_any_other_name_gives_kotlin_that_parses(make_named: MakeNamed, mistakes: Mistakes, name: str) -> None:
    if name.lower() in KOTLIN_PACKAGES:
        return
    one = make_named("cats")[0]
    folder = one.bundle.path.parent.parent / "out"
    shutil.rmtree(folder, ignore_errors=True)
    android.write([one], folder, PackageOptions("android", name=name), print)
    text = (folder / "model/src/main/kotlin/Model.kt").read_text()
    assert text.startswith(f"package org.evmdeploy.{name.lower()}\n")
    assert mistakes("kotlin", text) == []
    assert mistakes("kotlin", (folder / "settings.gradle.kts").read_text()) == []
    assert ElementTree.parse(folder / "benchmark/src/main/AndroidManifest.xml")


def test_an_unknown_precision_is_refused(make_named: MakeNamed, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="precision"):
        android.write(make_named("cats", precision="fp7"), tmp_path, OPTIONS, print)

"""The Swift package: what is in it, and that a parser of Swift reads it. Nothing here compiles it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.packaging import ios
from evm_deploy.packaging.contents import NamedBundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.reserved import SWIFT_MEMBERS, SWIFT_MODULES

MakeNamed = Callable[..., list[NamedBundle]]
Mistakes = Callable[[str, str], list[str]]
OPTIONS = PackageOptions("ios", name="Cats")


def swift(folder: Path) -> dict[str, str]:
    paths = sorted(folder.rglob("*.swift"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def build(target: str) -> dict[str, Any]:
    return {"build": {"deployment_target": target}}


def test_a_bundle_lies_whole_among_the_resources(make_named: MakeNamed, tmp_path: Path) -> None:
    contents = ios.write(make_named("cats", "dogs"), tmp_path, OPTIONS, print)
    assert contents.models == {name: f"Sources/Cats/Models/{name}" for name in ("cats", "dogs")}
    for place in contents.models.values():
        assert Bundle.open(tmp_path / place).labels() == ("cat", "dog", "eel")


def test_every_swift_file_parses(make_named: MakeNamed, mistakes: Mistakes, tmp_path: Path) -> None:
    ios.write(make_named("cats", "default", "self", "Type", "init"), tmp_path, OPTIONS, print)
    texts = swift(tmp_path)
    assert len(texts) > 15
    assert {name: mistakes("swift", text) for name, text in texts.items()} == {name: [] for name in texts}


def test_a_broken_file_would_be_found(make_named: MakeNamed, mistakes: Mistakes, tmp_path: Path) -> None:
    ios.write(make_named("cats"), tmp_path, OPTIONS, print)
    text = (tmp_path / "Sources/Cats/Model.swift").read_text()
    assert mistakes("swift", text.replace("case `cats`", "case `cats"))


def test_no_place_of_a_template_is_left_open(make_named: MakeNamed, tmp_path: Path) -> None:
    ios.write(make_named("cats"), tmp_path, OPTIONS, print)
    assert not [name for name, text in swift(tmp_path).items() if re.search("@[A-Z][A-Z0-9_]*@", text)]


def test_every_target_of_the_package_has_its_folder(make_named: MakeNamed, tmp_path: Path) -> None:
    ios.write(make_named("cats"), tmp_path, OPTIONS, print)
    text = (tmp_path / "Package.swift").read_text()
    assert text.startswith(f"// swift-tools-version: {ios.TOOLS}\n")  # which has to be the first line
    targets = dict(re.findall(r"\.(\w*[tT]arget)\(name: \"(\w+)\"", text))
    assert targets == {"target": "Cats", "executableTarget": "CatsBenchmark", "testTarget": "CatsTests"}
    assert (tmp_path / "Sources/CatsBenchmark/main.swift").is_file()
    assert (tmp_path / "Tests/CatsTests/Vectors/cases.json").is_file()
    assert {path.name for path in (tmp_path / "Sources").iterdir()} == {"Cats", "CatsBenchmark"}
    assert text.count("dependencies: []") == 2  # no classifier needs another package
    tests = [text for name, text in swift(tmp_path).items() if name.startswith("Tests/")]
    assert all("@testable import Cats\n" in text for text in tests)


def test_the_enumeration_names_every_model_with_its_tolerance(make_named: MakeNamed, tmp_path: Path) -> None:
    ios.write(make_named("cats", "default", "self"), tmp_path, OPTIONS, print)
    text = (tmp_path / "Sources/Cats/Model.swift").read_text()
    cases = dict(re.findall(r"case `(\w+)` = \"(\w+)\"", text))
    assert cases == {"cats": "cats", "default": "default", "self_": "self"}
    assert dict(re.findall(r"\.`(\w+)`: ([0-9.e-]+),", text)) == dict.fromkeys(cases, "0.0001")


@pytest.mark.parametrize(
    ("targets", "platforms"),
    [
        ([{}], ("16.0", "13.0")),
        ([build("iOS17")], ("17.0", "14.0")),
        ([build("macOS15")], ("18.0", "15.0")),
        ([build("iOS17"), build("iOS18"), build("macOS13")], ("18.0", "15.0")),
    ],
)
def test_the_platforms_run_every_network(
    make_named: MakeNamed, tmp_path: Path, targets: list[dict[str, Any]], platforms: tuple[str, str]
) -> None:
    bundles = [make_named(f"m{index}", **changes)[0] for index, changes in enumerate(targets)]
    ios.write(bundles, tmp_path, OPTIONS, print)
    found = re.search(r'\.iOS\("([0-9.]+)"\), \.macOS\("([0-9.]+)"\)', (tmp_path / "Package.swift").read_text())
    assert found
    assert found.groups() == platforms


@pytest.mark.parametrize("target", ["visionOS1", 17, "iOS1x"])
def test_a_target_that_is_not_known_is_refused(make_named: MakeNamed, tmp_path: Path, target: Any) -> None:
    with pytest.raises(BundleError, match="unknown deployment target"):
        ios.write(make_named("cats", **build(target)), tmp_path, OPTIONS, print)


def test_further_sizes_are_spoken_of(make_named: MakeNamed, tmp_path: Path) -> None:
    notes = ios.write(make_named("cats", more_sizes=((64, 96),)), tmp_path, OPTIONS, print).notes
    assert notes[0].startswith("The machine that wrote this package has no Xcode")
    assert notes[1].endswith("its Swift uses only the first, 32x32.")


def test_labels_are_data_and_nothing_else(make_named: MakeNamed, tmp_path: Path, hostile: tuple[str, ...]) -> None:
    ios.write(make_named("cats"), tmp_path / "plain", OPTIONS, print)
    contents = ios.write(make_named("cats", labels=hostile), tmp_path / "hostile", OPTIONS, print)
    assert swift(tmp_path / "plain") == swift(tmp_path / "hostile")
    assert Bundle.open(tmp_path / "hostile" / contents.models["cats"]).labels() == hostile


def test_the_same_bundles_give_the_same_bytes(make_named: MakeNamed, tmp_path: Path) -> None:
    found = []
    for place in (tmp_path / "a", tmp_path / "b"):
        ios.write(make_named("cats"), place, OPTIONS, print)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        found.append({path.relative_to(place): path.read_bytes() for path in files})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["class", "Foundation", "CoreML", "Swift", "Pixels", "Self"])
def test_a_name_that_swift_has_taken_is_refused(make_named: MakeNamed, tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="reserved in Swift"):
        ios.write(make_named("cats"), tmp_path / "out", PackageOptions("ios", name=name), print)
    assert not (tmp_path / "out").exists()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,39}", fullmatch=True),
    st.sampled_from([*sorted(SWIFT_MEMBERS), "class", "func", "nil", "Any", "operator", "x"]),
)
def test_any_other_name_gives_swift_that_parses(
    make_named: MakeNamed, mistakes: Mistakes, name: str, model: str
) -> None:
    if name in SWIFT_MODULES:
        return
    one = make_named(model)[0]
    folder = one.bundle.path.parent.parent / "out"
    shutil.rmtree(folder, ignore_errors=True)
    ios.write([one], folder, PackageOptions("ios", name=name), print)
    for file in ("Package.swift", f"Sources/{name}/Model.swift", f"Sources/{name}Benchmark/main.swift"):
        assert mistakes("swift", (folder / file).read_text()) == [], file

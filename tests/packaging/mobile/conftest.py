"""What tests of the packages for phones share: small bundles with names, parsers of the languages, and the Kotlin of an
Android package, compiled and running."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import evm_deploy
from evm_deploy.bundle import Bundle
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.packaging import android
from evm_deploy.packaging.contents import NamedBundle
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.scan import native

HERE = Path(__file__).parent / "kotlin"
DIGITS = Path(__file__).parents[3] / "examples" / "digits"
COMPILER = importlib.util.find_spec("run_kotlin_kernel")  # in the wheel `kotlin-jupyter-kernel`
NAME = "EfficientVMamba"  # as Drive.kt imports it
Ask = Callable[..., dict[str, Any]]

# A label may be anything of one line; these would end a string, a comment or a tag of every language that is written.
HOSTILE = (
    '"; import Evil //',
    "\\(exit(1)) ${System.exit(1)} $x",
    '</string><x a=\'&amp;\'> """ */ ]]> @NAME@ \u202e',
)


@pytest.fixture
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture
def make_named(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Callable[..., list[NamedBundle]]:
    """Small bundles with these names: `make_named("a", "b", labels=..., **manifest)`."""

    def make(*names: str, labels: Sequence[str] = ("cat", "dog", "eel"), **changes: Any) -> list[NamedBundle]:
        folder = tmp_path / "bundles"
        return [
            NamedBundle(name, make_bundle(folder / name, labels=tuple(labels), overwrite=True, **changes))
            for name in names
        ]

    return make


@pytest.fixture(scope="session")
def mistakes() -> Callable[[str, str], list[str]]:
    """What a parser finds wrong with a text: `mistakes("swift", text)`, a list of places and what is there."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammars = {name: pytest.importorskip(f"tree_sitter_{name}") for name in ("swift", "kotlin")}

    def wrong(node: Any) -> list[str]:
        if node.type == "ERROR" or node.is_missing:
            return [f"line {node.start_point[0] + 1}: {node.text.decode()[:60]!r}"]
        return [each for child in node.children if node.has_error for each in wrong(child)]

    def find(language: str, text: str) -> list[str]:
        parser = tree_sitter.Parser(tree_sitter.Language(grammars[language].language()))
        return wrong(parser.parse(text.encode()).root_node)

    return find


@pytest.fixture(scope="session")
def jars() -> list[Path]:
    """The Kotlin compiler."""
    if COMPILER is None or not COMPILER.submodule_search_locations:
        pytest.skip("no Kotlin compiler (pip install kotlin-jupyter-kernel)")
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler (Debian: apt install default-jdk)")
    if not native.available():
        pytest.skip("the operator library is not built here")
    return sorted((Path(COMPILER.submodule_search_locations[0]) / "jars").glob("*.jar"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "digits"
    options = ExportOptions(image_size=(64, 64), labels=DIGITS / "labels.txt")
    evm_deploy.export(DIGITS / "digits.safetensors", out, options)
    return Bundle.open(out)


@pytest.fixture(scope="session")
def package(digits: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("android")
    android.write(
        [NamedBundle("digits", digits), NamedBundle("object", digits)],
        folder,
        PackageOptions("android", name=NAME),
        print,
    )
    return folder


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture(scope="session")
def classes(jars: list[Path], package: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the compiled package is, with what it needs to run: everything that it has, without a warning."""
    standard = next(str(jar) for jar in jars if jar.name.startswith("kotlin-stdlib"))
    folder = tmp_path_factory.mktemp("classes")
    for part in (HERE / "stand_ins.txt").read_text().split("=== ")[1:]:
        name, _, text = part.partition("\n")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run("javac", "-nowarn", "-d", folder / "java", *folder.rglob("*.java"))
    sources = [*package.rglob("*.kt"), HERE / "Drive.kt"]
    compiler = ["java", "-cp", os.pathsep.join(map(str, jars)), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-Werror"]
    against = os.pathsep.join([standard, str(folder / "java")])
    run(*compiler, "-no-stdlib", "-no-reflect", "-cp", against, "-d", folder / "kotlin", *sources)
    return os.pathsep.join([str(folder / "kotlin"), against])


@pytest.fixture(scope="session")
def ask(classes: str, package: Path) -> Iterator[Ask]:
    """Asks the program, which lives as long as the tests: `ask("classify", image=..., ...)`."""
    library = native.native_library()
    facts = {"java.library.path": library.parent, "evm.python": sys.executable, "evm.session": HERE / "session.py"}
    words = ["java", *(f"-D{key}={value}" for key, value in facts.items()), "-cp", classes]
    process = subprocess.Popen(
        [*words, "org.evmdeploy.benchmark.DriveKt"],
        cwd=package / "model",
        env={**os.environ, "EVM_LIBRARY_FOLDER": str(library.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )

    def order(what: str, **more: Any) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    with process:
        yield order
        assert process.stdin
        process.stdin.close()

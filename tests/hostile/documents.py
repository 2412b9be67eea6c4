"""Malformed documents: manifests, indexes of packages, profiles, evaluations, benchmarks, with every value replaced."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cases import VALUES, Case, Content, Place, copy_bundle, damage, damage_text, list_places, remove, replace

MISSING = object()
Write = Callable[[Path, bytes], None]  # writes the document where the commands find it

OF_A_BUNDLE = (  # commands, and whether they are quick
    (["inspect", "bundle"], True),
    (["predict", "bundle", "red.png"], True),
    (["verify", "bundle"], True),
    (["package", "bundle", "--for", "jetson", "--out", "out"], True),
    (["inspect", "bundle", "--json"], True),
    (["evaluate", "bundle", "--data", "images", "--latency-runs", "0", "--out", "out"], False),
    (["quantize", "bundle", "--data", "images", "--out", "out", "--no-verify"], False),
    (["profile", "bundle", "--iterations", "2", "--json"], False),
)
OF_A_PACKAGE = ((["verify", "package"], True),)
OF_A_PROFILE = (
    (["report", "profile"], True),
    (["report", "profile", "--json"], True),
    (["report", "profile", "--html", "out.html"], True),
    (["report", "profile", "--out", "out"], False),
)
OF_AN_EVALUATION = (
    (["report", "profile", "--evaluation", "evaluation"], True),
    (["report", "profile", "--evaluation", "evaluation", "--html", "out.html"], True),
)
OF_A_BENCHMARK = (
    (["report", "benchmark"], True),
    (
        [
            "benchmark",
            "checkpoint.safetensors",
            "--image-size",
            "32",
            "--target",
            "x",
            "--out",
            "benchmark",
            "--overwrite",
        ],
        True,
    ),
)


def make_cases(seeds: Path, rng: random.Random) -> list[Case]:
    cases: list[Case] = []
    for bundle, most in (("onnx_fp32", 170), ("onnx_int8", 60), ("tensorrt_fp32", 40), ("coreml_fp16", 40)):
        text = (seeds / bundle / "manifest.json").read_bytes()
        cases += spread(f"manifest of {bundle}", text, write_manifest(seeds, bundle), OF_A_BUNDLE, most, rng)
    index = (seeds / "packages" / "web.json").read_bytes()
    cases += spread("index", index, write_index, OF_A_PACKAGE, 60, rng)
    profile = (seeds / "profile" / "profile.json").read_bytes()
    cases += spread("profile", profile, write_profile, OF_A_PROFILE, 120, rng)
    evaluation = (seeds / "evaluation" / "evaluation.json").read_bytes()
    cases += spread("evaluation", evaluation, write_evaluation(seeds), OF_AN_EVALUATION, 60, rng)
    benchmark = (seeds / "benchmark" / "benchmark.json").read_bytes()
    cases += spread("benchmark", benchmark, write_benchmark(seeds), OF_A_BENCHMARK, 60, rng)
    return cases


def spread(name: str, text: bytes, write: Write, commands: Any, most: int, rng: random.Random) -> list[Case]:
    """So many cases of one document, each given to one command after the other."""
    places = list(list_places(json.loads(text)))
    shallow = [place for place in places if len(place) < 3]
    made: dict[str, Content] = {f"text {kind}": damaged for kind, damaged in damage_text(text).items()}
    for i in range(most):
        place = rng.choice(shallow if i % 2 else places)
        value = MISSING if i % 10 == 9 else rng.choice(VALUES)
        made[f"{i} {'.'.join(map(str, place))[:60]}"] = partial(change, text, place, value)
    made |= {f"damaged {i}": damage(text, rng) for i in range(most // 10)}
    return [
        Case(f"{name}/{each}", prepare(write, data, commands[i % len(commands)][0]), commands[i % len(commands)][1])
        for i, (each, data) in enumerate(made.items())
    ]


def change(text: bytes, place: Place, value: Any) -> bytes:
    document = json.loads(text)
    changed = remove(document, place) if value is MISSING else replace(document, place, value)
    return json.dumps(changed).encode()


def prepare(write: Write, data: Content, command: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        write(folder, data() if callable(data) else data)
        return command

    return make


def write_manifest(seeds: Path, name: str) -> Write:
    def write(folder: Path, data: bytes) -> None:
        (copy_bundle(seeds / name, folder) / "manifest.json").write_bytes(data)
        shutil.copytree(seeds / "images", folder / "images")
        shutil.copy(seeds / "images" / "red" / "0.png", folder / "red.png")

    return write


def write_index(folder: Path, data: bytes) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "evm-package.json").write_bytes(data)


def write_profile(folder: Path, data: bytes) -> None:
    (folder / "profile").mkdir()
    (folder / "profile" / "profile.json").write_bytes(data)


def write_evaluation(seeds: Path) -> Write:
    def write(folder: Path, data: bytes) -> None:
        shutil.copytree(seeds / "profile", folder / "profile")
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "evaluation.json").write_bytes(data)

    return write


def write_benchmark(seeds: Path) -> Write:
    def write(folder: Path, data: bytes) -> None:
        (folder / "benchmark").mkdir()
        (folder / "benchmark" / "benchmark.json").write_bytes(data)
        shutil.copy(seeds / "checkpoint.safetensors", folder)

    return write

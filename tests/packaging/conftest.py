"""Packages of small bundles, made without a compiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy import compiling
from evm_deploy.bundle import Bundle
from evm_deploy.packaging.package import Package, package
from evm_deploy.packaging.package_options import PackageOptions

Maker = Callable[..., Package]


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiles for other processors, which takes minutes the first time."""
    monkeypatch.setattr(compiling, "find_zig_version", lambda: None)


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Path:
    return make_bundle(tmp_path / "small").path


@pytest.fixture
def pack(bundle: Path, no_compiler: None) -> Maker:
    """A package of a small bundle: `pack(out, platform="linux", bundles=[...], **options)`."""

    def make(out: Path, platform: str = "linux", bundles: list[Path] | None = None, **options: Any) -> Package:
        chosen = [bundle] if bundles is None else bundles
        return package(chosen, out, PackageOptions(platform, **options), lambda stage: None)

    return make

"""Finds the library that builds and runs engines on this machine, and the GPUs that it supports."""

import difflib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evm_deploy.errors import MissingToolError, OptionError, first_line


@dataclass(frozen=True)
class Library:
    """One row of the table: the module to import, the package that contains it, and whether it needs a GPU to build."""

    module: str
    package: str
    needs_gpu: bool


LIBRARIES = (
    Library("tensorrt", "tensorrt", needs_gpu=True),
    Library("tensorrt_rtx", "tensorrt-rtx-cu13", needs_gpu=False),
)
# TensorRT-RTX offers Turing, but has no float32 matrix product there, which the recurrence needs.
WITHOUT_FLOAT32_PRODUCTS = ("7.5",)


@dataclass(frozen=True)
class LibrarySearch:
    """The library that builds engines here, or None, and why those before it in the table do not."""

    library: Any
    reasons: tuple[str, ...]

    def require(self, purpose: str) -> Any:
        """Returns the library. Raises MissingToolError, which names the purpose, if there is none."""
        if self.library is None:
            packages = " or ".join(f"pip install {row.package}" for row in LIBRARIES if has_gpu() or not row.needs_gpu)
            raise MissingToolError(f"{purpose} needs TensorRT: {'; '.join(self.reasons)}.", packages)
        return self.library


def find_library() -> LibrarySearch:
    """The first library of the table that builds engines on this machine."""
    reasons = []
    for row in LIBRARIES:
        if row.needs_gpu and not has_gpu():
            reasons.append(f"{row.module} needs a GPU, and there is none")
            continue
        try:
            library = importlib.import_module(row.module)
            library.Builder  # noqa: B018  # even an empty folder of that name can be imported
            return LibrarySearch(library, tuple(reasons))
        except ModuleNotFoundError:
            reasons.append(f"{row.module} is not installed")
        except Exception as error:  # a library for another system or driver may raise anything
            reasons.append(f"{row.module} cannot be loaded ({first_line(error)})")
    return LibrarySearch(None, tuple(reasons))


def has_gpu() -> bool:
    """Whether there is a GPU that CUDA can use."""
    import torch

    return torch.cuda.is_available()


def name_library(trt: Any) -> str:
    """The library and its version, such as `tensorrt_rtx 1.7.1.116`."""
    return f"{trt.__name__} {trt.__version__}"


def list_capabilities(trt: Any) -> tuple[str, ...]:
    """The compute capabilities for which the library builds our networks; if it needs a GPU, that of the one here."""
    if not hasattr(trt, "ComputeCapability"):
        import torch

        return ("{}.{}".format(*torch.cuda.get_device_capability()),)
    names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in trt.ComputeCapability.__members__)
    found = tuple(f"{match[1]}.{match[2]}" for match in names if match)
    return tuple(capability for capability in found if capability not in WITHOUT_FLOAT32_PRODUCTS)


def choose_capabilities(asked: Sequence[str], trt: Any) -> tuple[str, ...]:
    """The requested capabilities (`8.6`, `86` or `sm_86`) in the library's order; if none is, all that it offers.

    Raises OptionError, which suggests the nearest, for one that the library does not support.
    """
    offer = list_capabilities(trt)
    names = {_parse_capability(text) or _refuse(text, offer, trt) for text in asked}
    for name in sorted(names - set(offer)):
        _refuse(name, offer, trt)
    return tuple(name for name in offer if name in names or not asked)


def shorten_capability(capability: str) -> str:
    """`sm86` for `8.6`."""
    return "sm" + capability.replace(".", "")


def _parse_capability(text: str) -> str | None:
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    return f"{match[1]}.{match[2]}" if match else None


def _refuse(text: str, offer: Sequence[str], trt: Any) -> str:
    try:
        nearest = min(offer, key=lambda name: abs(float(name) - float(text)))
    except ValueError:  # not a number
        nearest = difflib.get_close_matches(re.sub(r"^sm_?", "", text.lower()), offer, 1, cutoff=0)[0]
    raise OptionError(
        f"{name_library(trt)} does not build for the compute capability {text!r}, only for {', '.join(offer)}.",
        f"did you mean {nearest}? An engine for another GPU, such as a Jetson's, is built there by build_engine.sh.",
    )

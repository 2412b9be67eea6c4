"""The template of the HTML report, with its style, its script, and the hashes of both."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import re
from typing import Any

from evm_deploy.console import clean
from evm_deploy.optional import import_library
from evm_deploy.profiling import flame
from evm_deploy.reporting.quantities import format_number
from evm_deploy.reporting.svg import Markup

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@functools.cache
def load_template() -> Any:
    """Loads the template, which escapes all values except those passed through the filter `markup`.

    Raises MissingToolError: jinja2 is not installed.
    """
    jinja2 = import_library("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {name: _inline_asset(name) for name in ("style", "script")}
    environment.filters |= {"clean": clean, "number": format_number, "markup": _mark_safe}
    return environment.get_template("report.html")


def hash_styles(pictures: list[Markup]) -> str:
    """The hashes that let the page's security policy allow the style sheets inside these pictures."""
    return " ".join(sorted({_hash(text) for picture in pictures for text in _STYLE.findall(picture)}))


def _read_asset(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _inline_asset(name: str) -> dict[str, str]:
    """Our style sheet or script as text in the page, and the hash with which the security policy allows it."""
    content = _read_asset("report.css") + _style_kinds() if name == "style" else _read_asset("report.js")
    return {"text": _mark_safe(Markup(content)), "hash": _hash(content)}


def _style_kinds() -> str:
    """The style of the kinds of operators: the colours of the flame graph, light and dark."""
    light, dark = (
        "".join(f".k-{kind}{{--colour:{pair[scheme]}}}" for kind, pair in flame.COLOURS.items()) for scheme in (0, 1)
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _mark_safe(content: Markup) -> Any:
    """Marks `content` as safe, so that the template does not escape it."""
    return import_library("markupsafe").Markup(content)

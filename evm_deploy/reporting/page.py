"""The template of the HTML report, and what it is filled with whatever the report: style, script, and their hashes."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import re
from typing import Any

from evm_deploy.console import clean
from evm_deploy.optional import library
from evm_deploy.profiling import flame
from evm_deploy.reporting.quantities import number
from evm_deploy.reporting.svg import Markup

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@functools.cache
def template() -> Any:
    """Everything that it is filled with is escaped, but for what the filter `markup` lets through.

    Raises MissingToolError: jinja2 is not installed.
    """
    jinja2 = library("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {name: _inline(name) for name in ("style", "script")}
    environment.filters |= {"clean": clean, "number": number, "markup": _markup}
    return environment.get_template("report.html")


def hashes(pictures: list[Markup]) -> str:
    """By which the page's policy knows the style sheets within these pictures."""
    return " ".join(sorted({_hash(text) for picture in pictures for text in _STYLE.findall(picture)}))


def _asset(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _inline(name: str) -> dict[str, str]:
    """A style sheet or script of ours as the page holds it, and the hash by which its policy knows it."""
    content = _asset("report.css") + _kinds() if name == "style" else _asset("report.js")
    return {"text": _markup(Markup(content)), "hash": _hash(content)}


def _kinds() -> str:
    """The colours of the kinds of operators, light and dark, as the flame-like plot has them."""
    light, dark = (
        "".join(f".k-{kind}{{--colour:{pair[scheme]}}}" for kind, pair in flame.COLOURS.items()) for scheme in (0, 1)
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _markup(content: Markup) -> Any:
    """What may stand in the page as it is."""
    return library("markupsafe").Markup(content)

"""The page that runs bundles in a browser: plain HTML, CSS and ES modules, served by the profiler and in packages."""

from pathlib import Path

_FOLDER = Path(__file__).parent
PAGE = ("index.html", "style.css", "icon.svg")
WORKER = "sw.js"  # packages alone: it keeps the page for the time without a network


def page_files() -> dict[str, Path]:
    """Name beside index.html: file, of everything that the page itself is."""
    modules = sorted(path.name for path in _FOLDER.glob("*.mjs"))
    return {name: _FOLDER / name for name in (*PAGE, *modules)}


def worker_file() -> Path:
    """The service worker of packages."""
    return _FOLDER / WORKER

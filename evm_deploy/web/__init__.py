"""The page that runs bundles in a browser: plain HTML, CSS and ES modules. The profiler serves it; packages hold it."""

from pathlib import Path

_FOLDER = Path(__file__).parent
PAGE = ("index.html", "style.css", "icon.svg")
WORKER = "sw.js"  # only in packages: it caches the page for offline use


def list_page_files() -> dict[str, Path]:
    """The files of the page, by their name relative to index.html."""
    modules = sorted(path.name for path in _FOLDER.glob("*.mjs"))
    return {name: _FOLDER / name for name in (*PAGE, *modules)}


def find_worker_file() -> Path:
    """The file of the service worker in packages."""
    return _FOLDER / WORKER

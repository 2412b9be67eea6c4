"""Writes the agent as one file, which any Python 3.8 with numpy and a runtime can run."""

import zipfile
from pathlib import Path

_AGENT = Path(__file__).parent / "agent"
_START = b"import sys\n\nfrom evm_agent.program import main\n\nsys.exit(main(sys.argv[1:], [sys.argv[0]]))\n"
_DATE = (1980, 1, 1, 0, 0, 0)


def write_agent(path: Path) -> Path:
    """Writes the agent to `path`, with the same bytes each time, and returns `path`.

    Usage: `python3 agent.pyz REQUEST.json OUT.json`.
    """
    files = {f"evm_agent/{file.name}": file.read_bytes() for file in _AGENT.glob("*.py") if file.name != "__main__.py"}
    with zipfile.ZipFile(path, "w") as made:
        for name, data in sorted({**files, "__main__.py": _START}.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            made.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return path

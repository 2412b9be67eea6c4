"""`python -m evm_deploy.profiling.agent REQUEST.json OUT.json`, or `python agent.pyz REQUEST.json OUT.json`."""

from __future__ import annotations

import sys

from .program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], ["-m", __package__]))

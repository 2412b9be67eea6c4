"""`python -m evm_deploy`."""

import sys

from .cli import main

sys.exit(main())

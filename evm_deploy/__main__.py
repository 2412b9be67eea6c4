"""`python -m evm_deploy`."""

import sys

from evm_deploy.cli import main

sys.exit(main())

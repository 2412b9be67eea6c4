"""The command line: a command parses, calls the function of its name, and prints."""

from evm_deploy.cli.app import app
from evm_deploy.cli.entry import main

__all__ = ["app", "main"]

"""`evm-deploy doctor`."""

from __future__ import annotations

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, print_json


@app.command()
def doctor(json: Json = False) -> None:
    """Check this machine: libraries, their versions, and our operator library."""
    from evm_deploy.diagnosis import doctor as examine

    checks = examine()
    ready = all(check.ready for check in checks)
    if json:
        print_json(ready=ready, checks=checks)
    else:
        console.print_rows(checks)
    raise typer.Exit(0 if ready else 2)

"""Fuzzes a profile, and the report that is made of it."""

from __future__ import annotations

import contextlib
import json

from target import Run, change_document, read_seed, start


def load() -> Run:
    from evm_deploy.errors import EvmDeployError
    from evm_deploy.profiling.report import ProfileReport
    from evm_deploy.profiling.summaries import add_summaries
    from evm_deploy.reporting import html, markdown

    seed = json.loads(read_seed("profile/profile.json"))
    for result in seed["results"]:  # a few times and operators say as much as hundreds, and sooner
        if result["operators"]:
            del result["operators"]["rows"][6:]

    text = json.dumps(seed).encode()

    def run(data: bytes) -> None:
        with contextlib.suppress(EvmDeployError):
            report = add_summaries(ProfileReport.from_json(change_document(text, data), "profile.json"))
            markdown.render([report])
            if data[-1:] < b"\x20":  # which takes ten times as long
                html.render([report])

    return run


if __name__ == "__main__":
    start(load, "profile")

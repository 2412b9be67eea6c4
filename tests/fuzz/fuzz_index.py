"""Fuzzes the index of a package."""

from __future__ import annotations

import contextlib

from target import Run, change_document, read_seed, start


def load() -> Run:
    from evm_deploy.errors import EvmDeployError
    from evm_deploy.packaging.index import Index

    seed = read_seed("packages/web.json")

    def run(data: bytes) -> None:
        with contextlib.suppress(EvmDeployError):
            index = Index.from_json(change_document(seed, data))
            assert Index.from_json(index.to_json().encode()) == index

    return run


if __name__ == "__main__":
    start(load, "index")

"""Measures the time by operator of contenders on this machine, in a separate process.

`python -m evm_deploy.profiling.devices.by_operator REQUEST.json OUT.json`
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evm_deploy.errors import EvmDeployError
from evm_deploy.jsontext import dumps
from evm_deploy.profiling.report import Operators, Result

if TYPE_CHECKING:
    from evm_deploy.profiling.agent.request import AgentRequest

ONLY = "time by operator is measured only for ONNX bundles on onnxruntime, on the CPU"


def add_operators(results: Sequence[Result], found: bytes) -> tuple[Result, ...]:
    """Adds the operators that the process wrote to the results. Results without times stay unchanged."""
    from pydantic import TypeAdapter

    operators = TypeAdapter(dict[str, Operators | str]).validate_json(found)
    return tuple(
        result if result.error is not None else _add_to_result(result, operators.get(result.name, ONLY))
        for result in results
    )


def _add_to_result(result: Result, found: Operators | str) -> Result:
    if isinstance(found, str):
        return dataclasses.replace(result, notes=(*result.notes, found))
    return dataclasses.replace(result, operators=found)


def _measure(request: AgentRequest) -> dict[str, Operators | str]:
    from evm_deploy.bundle import Bundle
    from evm_deploy.profiling import operators, roofline
    from evm_deploy.targets import target_of

    threads = request.threads or len(request.affinity)
    peaks = roofline.measure_roofline(threads)
    found: dict[str, Operators | str] = {}
    for one in request.contenders:
        print(f"timing the operators of {one.name}", flush=True)
        try:
            bundle = Bundle.open(one.folder)
            ours = one.runner == "onnxruntime" and one.provider == "CPUExecutionProvider"
            if ours and target_of(bundle.manifest.target).is_portable:
                library = one.library is not None
                found[one.name] = operators.measure_operators(bundle, library=library, threads=threads, roofline=peaks)
        except EvmDeployError as error:
            found[one.name] = error.cause
    return found


def _main(path: Path, out: Path) -> int:
    from evm_deploy.profiling.agent.program import pin_to_cores
    from evm_deploy.profiling.agent.request import read_request

    request = read_request(path)
    pin_to_cores(request)
    out.write_text(dumps(_measure(request)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))

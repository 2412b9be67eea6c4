"""PyTorch to Core AI: a program of standard operations, the scan written out in chunks as for Core ML."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evm_deploy.errors import EvmDeployError, OutputError, first_line
from evm_deploy.exporters.deployed import DTYPES, INPUT, Source
from evm_deploy.exporters.recurrence import FORMS
from evm_deploy.exporters.trace import deploy, explain_operation, quiet, trace
from evm_deploy.optional import coreai, coreai_torch

FUNCTION = "main"


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Writes the `.aimodel` at `path`. Returns the names of its functions.

    Raises MissingToolError: no coreai-torch; InputError: an operation that it does not know.
    """
    coreai_torch()
    progress("converting to Core AI")
    program = convert(source)
    try:
        program.save_asset(path, _describe(source))
    except (OSError, RuntimeError) as error:
        what = f"coreai-core cannot write the program: {first_line(error.__cause__ or error)}."
        raise OutputError(what, "free some space at --out.") from error
    return {"functions": [FUNCTION]}


def convert(source: Source) -> Any:
    """The `AIProgram` of the folded network. Raises InputError: an operation that coreai-torch does not know."""
    ct, network, options = coreai_torch(), source.network, source.options
    deployed = deploy(
        network,
        source.manifest,
        uint8=source.manifest.preprocessing.baked,
        dtype=DTYPES[options.precision],
    )
    image = network.make_image(1, options.image_size)
    if deployed.uint8:
        image = torch.zeros(1, *options.image_size, 3, dtype=torch.uint8)
    traced = trace(deployed, (image,), ({},), network.title)
    names = [spec.name for spec in source.manifest.model_outputs]
    try:
        with quiet():
            forms = {op: form.run for op, form in FORMS.items()}
            program = traced.run_decompositions({**ct.get_decomp_table(), **forms})
            converter = ct.TorchConverter(mode=ct.TorchConverter.Mode.RELEASE)
            converter.add_exported_program(program, input_names=[INPUT], output_names=names, entrypoint_name=FUNCTION)
            return converter.to_coreai()
    except EvmDeployError:
        raise
    except Exception as error:  # of no common base
        raise explain_operation(error, traced, network.title) from error


def _describe(source: Source) -> Any:
    """What Xcode shows of a model."""
    options, checkpoint = source.options, source.manifest.checkpoint
    metadata = coreai().AIModelAssetMetadata()
    metadata.author, metadata.license = options.author, options.licence
    metadata.model_description = options.description or f"{source.network.title} from {checkpoint.file}"
    custom = {
        "version": options.version,
        "evm-deploy.checkpoint.sha256": checkpoint.sha256,
        "evm-deploy.version": source.manifest.tools["evm-deploy"],
    }
    for name, value in custom.items():
        metadata.set_custom(name, value)
    if source.labels:
        metadata.set_custom("labels", list(source.labels))
    return metadata

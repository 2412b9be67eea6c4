"""PyTorch to Core AI: a program of standard operations, with the scan written out in chunks as for Core ML."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument

from evm_deploy.errors import OutputError, first_line
from evm_deploy.exporters.coreai.outputs import FUNCTION, list_outputs, name_values, set_outputs
from evm_deploy.exporters.deployed import DTYPES, INPUT, Source
from evm_deploy.exporters.recurrence import FORMS, choose_float32
from evm_deploy.exporters.rewrites.adding import make_writer
from evm_deploy.exporters.scan_marks import find_module, mark_forms, name_results
from evm_deploy.exporters.trace import deploy, explain_operation, quiet, trace
from evm_deploy.graph.scan_results import find_scans
from evm_deploy.optional import coreai, coreai_torch


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Writes the `.aimodel` at `path`. Returns its functions, and what float16 costs each scan, which stay float32.

    Raises MissingToolError: no coreai-torch; InputError: an operation that it does not know.
    """
    coreai_torch()
    kept, facts = choose_float32(source, progress)
    progress("converting to Core AI")
    program = convert(source, kept)
    try:
        program.save_asset(path, _describe(source))
    except (OSError, RuntimeError) as error:
        what = f"coreai-core cannot write the program: {first_line(error.__cause__ or error)}."
        raise OutputError(what, "free some space at --out.") from error
    return {
        "functions": [FUNCTION],
        **facts,
    }


def convert(source: Source, kept: Collection[str] = ()) -> Any:
    """The `AIProgram` of the folded network; the scans of the modules `kept` stay float32.

    Raises InputError: an operation that coreai-torch does not know.
    """
    ct, network, options, manifest = coreai_torch(), source.network, source.options, source.manifest
    uint8 = manifest.preprocessing.baked
    deployed = deploy(network, manifest, uint8=uint8, dtype=DTYPES[options.precision])
    image = network.make_image(1, options.image_size)
    if uint8:
        image = image.permute(0, 2, 3, 1).to(torch.uint8)
    traced = trace(deployed, (image,), ({},), network.title)
    _keep_float32(traced.graph, kept)
    names = [spec.name for spec in manifest.model_outputs]
    try:
        with quiet():
            table = {**ct.get_decomp_table(), **mark_forms()}
            if options.precision == "fp16":
                table[torch.ops.aten.linear.default] = _write_linear
            program = traced.run_decompositions(table)
            scans = _give_scans(program)
            converter = ct.TorchConverter(mode=ct.TorchConverter.Mode.RELEASE)  # no paths of this machine
            converter.add_exported_program(
                program, input_names=[INPUT], output_names=[*names, *scans], entrypoint_name=FUNCTION
            )
            converted = converter.to_coreai()
    except Exception as error:  # of no common base
        raise explain_operation(error, traced, network.title) from error
    values = list_outputs(converted)
    name_values(converted, dict(zip(scans, values[len(names) :], strict=True)))
    set_outputs(converted, dict(zip(names, values, strict=False)))
    return converted


def _keep_float32(graph: torch.fx.Graph, kept: Collection[str]) -> None:
    """Converts what the scans of these modules are given to float32, and back what they give."""
    aten = torch.ops.aten
    for scan in list(graph.nodes):
        form = FORMS.get(scan.target)
        if form is None or form.D is None or find_module(scan) not in kept:
            continue
        write = make_writer(scan)
        with graph.inserting_before(scan):
            given = [
                write(aten._to_copy.default, each, dtype=torch.float32) if place in form.halves else each
                for place, each in enumerate(scan.args)
            ]
            y = write(scan.target, *given)
            scan.replace_all_uses_with(write(aten._to_copy.default, y, dtype=torch.float16))
        graph.erase_node(scan)


def _write_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A product with weights as a convolution, which is what a Neural Engine multiplies with; and Apple's runtime for
    CPUs adds up convolutions in float32, but products in float16: T loses 7.5e-4 so, and 7.0e-3 otherwise.
    """
    image = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    y = F.conv2d(image, weight.unsqueeze(-1).unsqueeze(-1), bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _give_scans(program: torch.export.ExportedProgram) -> list[str]:
    """Makes what scans give outputs of the program, the last. Returns their names."""
    name_results(program.graph)
    scans = find_scans(node.name for node in program.graph.nodes)
    names = [name for scan in scans for name in scan.names]
    nodes = {node.name: node for node in program.graph.nodes}
    last = program.graph.output_node()
    last.args = ((*last.args[0], *(nodes[name] for name in names)),)
    for name in names:
        program.graph_signature.output_specs.append(OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name), None))
    return names


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

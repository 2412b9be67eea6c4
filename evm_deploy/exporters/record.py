"""What export writes beside a model: what can be said of it."""

import importlib.metadata

from evm_deploy.bundle import Manifest
from evm_deploy.errors import CheckpointError
from evm_deploy.exporters.choose_preprocessing import choose_preprocessing, fit_preprocessing
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.models.network import Network
from evm_deploy.targets import TARGETS

TOOLS = ("evm-deploy", "torch", "onnx", "onnxscript", "onnxruntime")


def make_manifest(network: Network, options: ExportOptions) -> Manifest:
    """What can be said of the bundle before it is written."""
    from evm_deploy.exporters.deployed import choose_last_steps, describe_io, describe_last_steps

    task, inputs, outputs = describe_io(network, options)
    if (steps := choose_last_steps(network, options)) is not None:
        preprocessing, record = fit_preprocessing(options, network.recorded, steps.scale)
    else:
        preprocessing, record = choose_preprocessing(options, network.recorded)
    return Manifest(
        task=task.name,
        target=options.target,
        precision=options.precision,
        model_file=TARGETS[options.target].model_file,
        inputs=inputs,
        outputs=outputs,
        preprocessing=preprocessing,
        preprocessing_record=record,
        checkpoint=network.record,
        model=network.facts,
        scan_form=options.scan_form or TARGETS[options.target].scan_forms[0],
        tools=list_tool_versions(),
        opset=options.opset if "opset" in TARGETS[options.target].offers else None,
        more_sizes=options.more_sizes,
        last_steps=describe_last_steps(network, options),
    )


def check_float16(network: Network) -> None:
    """Raises CheckpointError for a weight that float16 cannot hold, once folded; a scan's own may stay float32."""
    import torch

    largest = torch.finfo(torch.float16).max
    for name, tensor in network.fold(network.module).state_dict().items():
        held = not tensor.is_floating_point() or name.rpartition(".")[2] in network.scan_values
        if not held and bool((tensor.abs() > largest).any()):
            raise CheckpointError(
                f"{network.record.file}: {name} is too large for float16.", "export it with --precision fp32."
            )


def list_tool_versions() -> dict[str, str]:
    """The versions of what makes a bundle."""
    return {name: importlib.metadata.version(name) for name in TOOLS}

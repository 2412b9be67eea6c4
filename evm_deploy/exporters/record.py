"""What export writes beside a model: what can be said of it, and the golden pair."""

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from evm_deploy.bundle import CheckpointRecord, Manifest, Preprocessing, Sample
from evm_deploy.errors import CheckpointError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.jsontext import utf8_name
from evm_deploy.models import EfficientVMamba
from evm_deploy.models.checkpoint import Checkpoint
from evm_deploy.targets import TARGETS

TOOLS = ("evm-deploy", "torch", "onnx", "onnxscript", "onnxruntime")


def first_manifest(source: Checkpoint, file: str, options: ExportOptions) -> Manifest:
    """What can be said of the bundle before it is written."""
    from evm_deploy.exporters.deployed import io_specs

    config = source.config
    inputs, outputs = io_specs(config, options)
    return Manifest(
        task="backbone" if config.num_classes is None else "classification",
        target=options.target,
        precision=options.precision,
        model_file=TARGETS[options.target].model_file,
        inputs=inputs,
        outputs=outputs,
        preprocessing=Preprocessing(options.image_size, baked=options.bake_preprocessing),
        checkpoint=CheckpointRecord(utf8_name(file), source.sha256, options.key),
        model=dataclasses.asdict(config),
        scan_form=options.scan_form or TARGETS[options.target].scan_forms[0],
        tools=tools(),
        opset=options.opset if "opset" in TARGETS[options.target].offers else None,
        more_sizes=options.more_sizes,
    )


def golden_pair(model: EfficientVMamba, manifest: Manifest, images: Mapping[str, npt.NDArray[Any]]) -> Sample:
    """The first verification image, and what PyTorch makes of it."""
    from evm_deploy.exporters.deployed import reference
    from evm_deploy.runtimes.pytorch import TorchRunner

    softmax = manifest.outputs[0].meaning == "probabilities"
    image = next(iter(images.values()))
    outputs = TorchRunner(reference(model, manifest.preprocessing, softmax=softmax)).run(image)
    return Sample(image, tuple(outputs))


def check_float16(model: EfficientVMamba, checkpoint: object) -> None:
    """Raises CheckpointError for a weight that float16 cannot hold, once folded; a scan's own may stay float32."""
    import torch

    from evm_deploy.models.efficientvmamba.fold import SCAN_PARAMETERS, fold

    largest = torch.finfo(torch.float16).max
    for name, tensor in fold(model).state_dict().items():
        if name.rpartition(".")[2] not in SCAN_PARAMETERS and bool((tensor.abs() > largest).any()):
            raise CheckpointError(f"{checkpoint}: {name} is too large for float16.", "export it with --precision fp32.")


def tools() -> dict[str, str]:
    """The versions of what makes a bundle."""
    return {name: importlib.metadata.version(name) for name in TOOLS}

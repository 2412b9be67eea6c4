"""The names that the layers of EfficientVMamba and VMamba have had, and what ends their networks."""

import re

from torch import Tensor

OLD_NAMES = (
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.0."),
    (re.compile(r"^patch_embed\.norm\."), "patch_embed.2."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+)\.ln_1\."), r"\1.norm."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+)\.self_attention\."), r"\1.op."),
    (re.compile(r"^norm\."), "classifier.norm."),
    (re.compile(r"^head\."), "classifier.head."),
)
BODY = re.compile(r"patch_embed\.|layers\.|classifier\.norm\.|outnorm\d+\.")
HEAD = "classifier.head"
STEM = re.compile(r"^((?:.*\.)?)patch_embed\.(?:0|proj)\.weight$")  # see `Family.stem`


def rename_layers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their released names. A head that is one linear layer may have any name, and no bias."""
    tensors = {_rename(name): tensor for name, tensor in tensors.items()}
    head = {name: tensor for name, tensor in tensors.items() if not BODY.match(name)}
    layer = next((name.removesuffix(".weight") for name in head if name.endswith(".weight")), HEAD)
    weight, bias = head.pop(f"{layer}.weight", None), head.pop(f"{layer}.bias", None)
    if weight is None or weight.ndim != 2 or head:
        return tensors
    body = {name: tensor for name, tensor in tensors.items() if BODY.match(name)}
    return body | {f"{HEAD}.weight": weight, f"{HEAD}.bias": weight.new_zeros(len(weight)) if bias is None else bias}


def explain_ends(tensors: dict[str, Tensor]) -> str | None:
    """What is wrong with the first or the last layer, as a sentence goes on: "its head ..."."""
    stem = tuple(tensors["patch_embed.0.weight"].shape)
    if len(stem) == 4 and stem[1] != 3:
        return f"its first convolution takes {stem[1]} channel{'s' * (stem[1] != 1)}, and images have 3"
    head = [name for name in tensors if not BODY.match(name)]
    if f"{HEAD}.weight" not in head and head:
        return f"its head is not one linear layer ({', '.join(head[:3])}{', ...' * (len(head) > 3)})"
    return None


def _rename(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name

"""What a kind of network has to say of itself, so that its checkpoints can be read and exported."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from evm_deploy.models.last_steps import LastSteps


class UnsupportedNetwork(ValueError):
    """Why a network cannot be read, as "a RetinaNet, but" goes on."""


@dataclass(frozen=True)
class FeatureMap:
    """One of the maps that a backbone gives: the pixels from cell to cell, and the channels."""

    stride: int
    width: int


@dataclass(frozen=True)
class Family:
    """One row of the table of families, or of heads. A configuration is a dataclass of plain values: the manifest
    records it.

    stem: matches the name of a tensor that every network of the family has; the first group is what precedes the name
        in a file, such as `module.` or `backbone.`.
    rename: gives the tensors of a file, which no longer have such a prefix, their released names.
    infer_config: the configuration that the tensors' shapes say, which need not fit every tensor; or what is missing
        to say any. Its second argument is the one of `scans` that is asked for, or None. Raises UnsupportedNetwork.
    explain: what is wrong with tensors that do not fit the configuration that they say, as "an EfficientVMamba, but"
        goes on; None: no more than their names and shapes say.
    explain_form: what a file says beside the weights, in its content, that makes the mathematics of a configuration
        another and cannot be seen in the tensors, as "a VMamba, but" goes on.
    apply_settings: a configuration with what the file's content says beside the weights. Raises UnsupportedNetwork.
    list_maps: the maps that a backbone of a configuration gives; None: the family has no backbones.
    unused: the names of tensors with no part in inference.
    network: the class of the networks; called with a configuration it builds one, which has it as `config`.
    fold: the same function for inference, with everything exact folded, on a copy.
    fold_preprocessing: the same network for pixels in 0..255, by mean and deviation, on a copy; None: not exactly.
    last_steps: of a head, from what it gives to results.
    name_outputs: the names of the exported model's outputs; None: the task's.
    name_variant: the name under which a configuration was published, if it was.
    """

    title: str
    network: type[nn.Module]
    stem: re.Pattern[str]
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    infer_config: Callable[[dict[str, Tensor], str | None], Any]
    explain: Callable[[dict[str, Tensor]], str | None]
    fold: Callable[[Any], nn.Module]
    fold_preprocessing: Callable[[Any, Sequence[float], Sequence[float]], nn.Module] | None
    name_outputs: Callable[[Any], list[str] | None]
    name_variant: Callable[[Any], str | None]
    blocks: re.Pattern[str]  # the modules that errors and profiles are told by
    scan_values: tuple[str, ...]  # how the names of what scans are given end, once folded: it may stay float32
    explain_form: Callable[[Any, Any], str | None] | None = None
    scans: tuple[str, ...] = ()  # what the tensors do not tell and `scan` does, the usual one first
    list_maps: Callable[[Any], tuple[FeatureMap, ...]] | None = None
    unused: re.Pattern[str] | None = None
    apply_settings: Callable[[Any, Any], Any] | None = None
    last_steps: LastSteps | None = None

"""BatchNorm folded into the convolution before it: exact, in float64."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Pair = tuple[str, str]  # the names of a convolution and of the BatchNorm that alone takes what it gives


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """The convolution that does what both do, in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(),
        conv.bias.double() if conv.bias is not None else None,
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double() if norm.weight is not None else None,
        norm.bias.double() if norm.bias is not None else None,
    )
    dtype = conv.weight.dtype
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    folded.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)
    return folded


def fold_pairs(module: nn.Module, pairs: Sequence[Pair]) -> nn.Module:
    """A copy of `module`, for inference, with each of these BatchNorms folded into its convolution."""
    folded = copy.deepcopy(module).eval().requires_grad_(False)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(conv_name, fold_batch_norm(conv, norm))
        folded.set_submodule(norm_name, nn.Identity())
    return folded


def find_pairs(module: nn.Module, image: Tensor) -> list[Pair]:
    """The pairs to fold in any module, found as it runs on `image` (B, 3, H, W)."""
    uses, hooks, pairs = _Uses(), [], list[Pair]()
    calls: Counter[str] = Counter()
    made: dict[int, str] = {}  # by the identity of the tensor that a convolution gave
    for name, part in module.named_modules():
        if type(part) is nn.Conv2d:

            def made_by(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                calls[name] += 1
                made[id(output)] = name
                uses.kept.append(output)  # so that no other tensor gets its identity

            hooks.append(part.register_forward_hook(made_by))
        if type(part) is nn.BatchNorm2d and part.running_var is not None:

            def taken_by(_: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                calls[name] += 1
                if id(given[0]) in made:
                    pairs.append((made[id(given[0])], name))

            hooks.append(part.register_forward_pre_hook(taken_by))
    try:
        with torch.inference_mode(), uses:
            results = tree_leaves(module(image))
    finally:
        for hook in hooks:
            hook.remove()
    alone = {made[key] for key in made if uses.count[key] == 1} - {made.get(id(result), "") for result in results}
    return [(conv, norm) for conv, norm in pairs if conv in alone and calls[conv] == calls[norm] == 1]


class _Uses(TorchDispatchMode):
    """Counts the operations that take each tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count.update({id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)})
        return func(*args, **(kwargs or {}))

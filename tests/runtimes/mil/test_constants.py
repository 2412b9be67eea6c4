"""Compressed constants, decoded as coremltools itself decodes them, and activations that are quantised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.describe import describe
from evm_deploy.runtimes.mil.dtypes import NAMED, unpack
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.program import read_model

RECIPES: dict[str, tuple[str, Callable[[Any], Any]]] = {  # deployment target, and how weights are compressed
    "int8": ("iOS16", lambda o: linear(o, mode="linear_symmetric")),
    "uint8": ("iOS16", lambda o: linear(o, mode="linear", dtype="uint8")),
    "palette of 1 bit": ("iOS16", lambda o: palette(o, nbits=1, mode="uniform")),
    "palette of 2 bits": ("iOS16", lambda o: palette(o, nbits=2, mode="uniform")),
    "palette of 4 bits": ("iOS16", lambda o: palette(o, nbits=4, mode="kmeans")),
    "palette of 6 bits": ("iOS16", lambda o: palette(o, nbits=6, mode="uniform")),
    "palette of 8 bits": ("iOS16", lambda o: palette(o, nbits=8, mode="uniform")),
    "sparse": ("iOS16", lambda o: sparse(o)),
    "int8 channels": ("iOS18", lambda o: linear(o, mode="linear_symmetric")),
    "int4 blocks": (
        "iOS18",
        lambda o: linear(o, mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=8),
    ),
    "uint4 blocks": (
        "iOS18",
        lambda o: linear(o, mode="linear", dtype="uint4", granularity="per_block", block_size=4),
    ),
    "palette of 3 bits, groups": (
        "iOS18",
        lambda o: palette(o, nbits=3, mode="uniform", granularity="per_grouped_channel", group_size=4),
    ),
    "palette of 4 bits, scaled": (
        "iOS18",
        lambda o: palette(o, nbits=4, mode="uniform", enable_per_channel_scale=True),
    ),
    "palette of vectors": ("iOS18", lambda o: palette(o, nbits=2, mode="kmeans", cluster_dim=2)),
    "sparse, 18": ("iOS18", lambda o: sparse(o)),
}


def linear(optimize: Any, **options: Any) -> Any:
    config = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(weight_threshold=16, **options))
    return lambda model: optimize.linear_quantize_weights(model, config)


def palette(optimize: Any, **options: Any) -> Any:
    config = optimize.OptimizationConfig(optimize.OpPalettizerConfig(weight_threshold=16, **options))
    return lambda model: optimize.palettize_weights(model, config)


def sparse(optimize: Any) -> Any:
    config = optimize.OptimizationConfig(optimize.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=16))
    return lambda model: optimize.prune_weights(model, config)


class Net(nn.Module):
    """A convolution and a product, with weights that any block size divides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 24)."""
        y: Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return y


@pytest.fixture(scope="module")
def models(convert: Callable[..., Any]) -> Callable[[str, str], Any]:
    """The network for a deployment target and precision, as a coremltools model."""
    made: dict[tuple[str, str], Any] = {}

    def model(target: str, precision: str) -> Any:
        torch.manual_seed(0)
        key = (target, precision)
        made[key] = made.get(key) or convert(Net().eval(), torch.zeros(1, 3, 8, 8), target=target, precision=precision)
        return made[key]

    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_decodes_as_coremltools(
    models: Callable[[str, str], Any], ct: Any, quiet: Any, tmp_path: Path, recipe: str, precision: str
) -> None:
    """Decompressed by coremltools and saved again, the program gives the same to the bit."""
    optimize = ct.optimize.coreml
    target, compression = RECIPES[recipe]
    with quiet():
        compressed = compression(optimize)(models(target, precision))
        compressed.save(str(tmp_path / "compressed.mlpackage"))
        optimize.decompress_weights(compressed).save(str(tmp_path / "plain.mlpackage"))
    assert describe(tmp_path / "compressed.mlpackage")["compressed_constants"] >= 1
    assert describe(tmp_path / "plain.mlpackage")["compressed_constants"] == 0
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    (found,) = opened(tmp_path / "compressed.mlpackage").run({"x": x}).values()
    (expected,) = opened(tmp_path / "plain.mlpackage").run({"x": x}).values()
    assert torch.equal(found, expected)


def opened(package: Path) -> Evaluator:
    model = read_model(package)
    return Evaluator(model.functions[0], Blobs(model.folder))


SPARSE: dict[str, Callable[[Any, Tensor], Any]] = {
    "constexpr_sparse_blockwise_shift_scale": lambda mb, mask: mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=types_of(mask, "uint1"),
        nonzero_data=types_of(torch.arange(int(mask.sum())) % 8, "uint4"),
        scale=np.array([[0.5], [0.25]], np.float32),
        offset=types_of(torch.tensor([[1], [3]]), "uint4"),
    ),
    "constexpr_lut_to_sparse": lambda mb, mask: mb.constexpr_lut_to_sparse(
        indices_mask=types_of(mask, "uint1"),
        indices_nonzero_data=types_of(torch.arange(int(mask.sum())) % 4, "uint2"),
        lut=np.array([[[[0.5], [1.5], [-2], [3]]], [[[5], [6], [7], [8]]]], np.float32),
    ),
    "constexpr_lut_to_sparse of vectors": lambda mb, mask: mb.constexpr_lut_to_sparse(
        indices_mask=types_of(mask, "uint1"),
        indices_nonzero_data=types_of(torch.arange(int(mask.sum())) % 2, "uint1"),
        lut=np.array([[[[0.5, 1], [-2, 3]]]], np.float32),
        vector_axis=np.int32(0),
    ),
}


def types_of(values: Tensor, name: str) -> Any:
    """An array in one of coremltools' types of less than a byte."""
    from coremltools.converters.mil.mil import types

    return values.numpy().astype(types.nptype_from_builtin(types.string_to_builtin(name)))


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_and_compressed(
    name: str, save_program: Callable[..., Path], evaluate: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    mask = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 1, 1, 0]])
    known: list[Any] = []

    def body(mb: Any, x: Any) -> Any:
        made = SPARSE[name](mb, mask)
        dense = mb.constexpr_sparse_to_dense(nonzero_data=made[1], mask=made[0])
        known.append(dense.op.materialized_val_inference())
        return mb.add(x=x, y=dense, name="y")

    x = torch.zeros(4 if "vectors" in name else 2, 5)
    package = save_program(tmp_path / "sparse.mlpackage", body, {"x": x}, target="iOS18")
    assert torch.equal(evaluate(package, x=x)["y"], torch.from_numpy(known[0]))


@pytest.mark.parametrize("name", "int4 uint1 uint2 uint3 uint4 uint6".split())
def test_packed_bits(name: str) -> None:
    """Against Python's whole numbers, lowest bits first."""
    bits, count = int(name[-1]), 13
    values = [(7 * place) % 2**bits for place in range(count)]
    packed = sum(value << (bits * place) for place, value in enumerate(values)).to_bytes(
        -(-count * bits // 8), "little"
    )
    signed = [value - 2**bits if name == "int4" and value >= 2 ** (bits - 1) else value for value in values]
    assert unpack(np.frombuffer(packed, np.uint8), NAMED[name], (count,)).tolist() == signed


def test_quantised_activations(
    save_program: Callable[..., Path], evaluate: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    """Against the formulas: for a scale and for one a channel, with and without a zero point."""
    scales, zeros = np.array([0.5, 0.25, 2], np.float32), np.array([-3, 0, 100], np.int8)

    def body(mb: Any, x: Any) -> Any:
        channels = mb.quantize(input=x, scale=scales, zero_point=zeros, axis=1, output_dtype="int8")
        one = mb.quantize(input=x, scale=np.float32(0.125), output_dtype="uint8")
        return (
            mb.dequantize(input=channels, scale=scales, zero_point=zeros, axis=1, name="channels"),
            mb.dequantize(input=one, scale=np.float32(0.125), name="one"),
        )

    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0)) * 20
    found = evaluate(save_program(tmp_path / "q.mlpackage", body, {"x": x}, target="iOS17"), x=x)
    scale, zero = torch.from_numpy(scales)[:, None], torch.from_numpy(zeros)[:, None]
    expected = ((x / scale).round() + zero).clamp(-128, 127)
    assert torch.equal(found["channels"], (expected - zero) * scale)
    assert torch.equal(found["one"], (x / 0.125).round().clamp(0, 255) * 0.125)

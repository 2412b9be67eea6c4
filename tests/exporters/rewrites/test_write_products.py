"""`einsum` of batched matrices is written as `matmul`, and gives the same; any other stays."""

import pytest
import torch
from torch import Tensor, nn

from evm_deploy.exporters.rewrites import rewrite
from evm_deploy.exporters.trace import quiet

SIZES = dict(zip("bkdlcrn", (2, 3, 4, 5, 6, 7, 8), strict=True))


class Product(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, *factors: Tensor) -> Tensor:
        return torch.einsum(self.equation, *factors)


def rewrite_product(equation: str, factors: list[Tensor]) -> tuple[set[str], Tensor]:
    with quiet():
        program = rewrite(torch.export.export(Product(equation), tuple(factors), strict=False))
    program.validate()
    return {str(node.target) for node in program.graph.nodes}, program.module()(*factors)


def make_factors(equation: str) -> list[Tensor]:
    letters = equation.replace(" ", "").partition("->")[0].split(",")
    return [torch.randn([SIZES[each] for each in factor]) for factor in letters]


@pytest.mark.parametrize(
    "equation",
    ["b k d l, k c d -> b k c l", "kcd,bkdl->bkcl", "bld,cd->blc", "bld,bnd->bln", "bkld,kdc->kblc", "ld,dc->cl"],
)
def test_products_of_matrices(equation: str) -> None:
    factors = make_factors(equation)
    targets, found = rewrite_product(equation, factors)
    assert "aten.matmul.default" in targets
    assert "aten.einsum.default" not in targets
    torch.testing.assert_close(found, torch.einsum(equation, *factors))


@pytest.mark.parametrize("equation", ["bkld,kdc->blkc", "bkd,kd->bk", "bkld,kdc->blc", "bkd,kdl,kd->bl", "bd,bd->"])
def test_other_products_stay(equation: str) -> None:
    factors = make_factors(equation)
    targets, found = rewrite_product(equation, factors)
    assert "aten.einsum.default" in targets
    torch.testing.assert_close(found, torch.einsum(equation, *factors))


def test_what_is_stretched_stays() -> None:
    factors = [torch.randn(2, 3, 1), torch.randn(4, 5)]
    targets, _ = rewrite_product("bld,dc->blc", factors)
    assert "aten.einsum.default" in targets

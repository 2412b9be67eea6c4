"""What depends on weights alone is a weight of the program; what would be larger, or takes the image, is computed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.exporters.rewrites.fold_constants import fold_constants
from evm_deploy.exporters.trace import quiet


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.log = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))
        self.large = nn.Parameter(torch.randn(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 2, 5) -> (B, 4, 2, 5)."""
        y = F.conv2d(x, self.weight[:, :, None, None]) * self.log.exp().neg().view(-1, 1, 1)
        return y + self.large.expand(4, 5).unsqueeze(1)


def test_weights_are_computed_once() -> None:
    module, x = Weighted().eval(), torch.randn(2, 3, 2, 5)
    with quiet():
        program = torch.export.export(module, (x,), strict=False)
        fold_constants(program)
        program.graph_module.recompile()
    program.validate()
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not targets & {"aten.exp.default", "aten.neg.default", "aten.view.default"}
    assert "aten.expand.default" in targets
    torch.testing.assert_close(program.module()(x), module(x))

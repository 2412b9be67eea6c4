"""The operators of detectors as onnxruntime has them, each one node of ONNX's own."""

import onnxruntime
import pytest
import torch
from torch import nn

from evm_deploy.exporters.onnx import finish, translate
from evm_deploy.regions.alignment import align_regions
from evm_deploy.regions.suppression import suppress_boxes


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def convert(function, inputs, axes):
    """The ONNX model of a function, and what runs it."""
    module, names = Function(function), [f"x{i}" for i in range(len(inputs))]
    with torch.no_grad():
        traced = torch.export.export(module, inputs, dynamic_shapes=(axes,), strict=False)
    proto = finish(translate(traced, "a function", input_names=names, opset_version=20, dynamic_shapes=(axes,)))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return proto, lambda *given: session.run(None, {n: x.numpy() for n, x in zip(names, given, strict=True)})[0]


def test_suppression():
    count = torch.export.Dim("count", min=2)
    boxes, scores = torch.zeros(5, 4), torch.zeros(5)

    def suppress(boxes, scores):
        return suppress_boxes(boxes, scores, 0.5, 0.25, 12)

    proto, run = convert(suppress, (boxes, scores), ({0: count}, {0: count}))
    assert [node.op_type for node in proto.graph.node].count("NonMaxSuppression") == 1
    lengths = set()
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        corners = torch.randint(0, 12, (40, 2, 2), generator=g).float()  # many alike, some without area
        boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
        scores = torch.randint(0, 9, (40,), generator=g) / 8  # many ties
        for most in (40, 7):
            expected = suppress(boxes[:most], scores[:most])
            assert run(boxes[:most], scores[:most]).tolist() == expected.tolist()
            lengths.add(len(expected))
    assert max(lengths) == 12
    assert run(boxes, torch.zeros(40)).shape == (0,)


@pytest.mark.parametrize("samples", [0, 2])
def test_alignment(samples):
    g = torch.Generator().manual_seed(0)
    map = torch.randn(1, 3, 9, 13, generator=g)
    corners = torch.rand(30, 2, 2, generator=g) * torch.tensor([70.0, 50.0]) - 8
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    axes = ({2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)}, {0: torch.export.Dim("n", min=2)})

    def align(map, boxes):
        return align_regions(map, boxes, 3, 2, 0.25, samples)

    proto, run = convert(align, (map, boxes), axes)
    assert [node.op_type for node in proto.graph.node].count("RoiAlign") == 1
    for some in (boxes, boxes[:3], boxes[:0]):
        for part in (map, map[:, :, :4, :5].contiguous()):
            found = torch.from_numpy(run(part, some))
            torch.testing.assert_close(found, align(part, some), rtol=0, atol=5e-6)

"""What follows the heads, in a graph of standard operators: the same detections, masks and labels in onnxruntime."""

import numpy as np
import onnxruntime
import torch
from torch import nn

from evm_deploy.exporters.onnx import finish, translate
from evm_deploy.models.heads.pooling import pool_adaptively
from evm_deploy.models.heads.upernet.label import find_labels, resize_logits


def test_labels_of_a_upernet():
    logits, sizes = torch.randn(1, 5, 16, 24), ((64, 96), (75, 101))

    class Labels(nn.Module):
        def forward(self, logits):
            return find_labels(logits, *sizes)

    traced = torch.export.export(Labels(), (logits,), strict=False)
    proto = finish(translate(traced, "labels", input_names=["logits"], opset_version=20))
    (found,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"logits": logits.numpy()})
    best = resize_logits(logits, *sizes).topk(2, dim=1).values
    sure = (best[:, 0] - best[:, 1] > 1e-3).numpy()
    assert sure.mean() > 0.99
    assert np.array_equal(found[sure], find_labels(logits, *sizes).numpy()[sure])


def test_pooling_at_any_size():
    class Pool(nn.Module):
        def forward(self, x):
            return tuple(pool_adaptively(x, side) for side in (1, 2, 3, 6))

    axes = {2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)}
    config = torch.fx.experimental._config
    with torch.no_grad(), config.patch(backed_size_oblivious=True):
        traced = torch.export.export(Pool(), (torch.randn(1, 2, 5, 7),), dynamic_shapes=(axes,), strict=False)
    proto = finish(translate(traced, "pooling", input_names=["x"], opset_version=20))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for h, w in ((1, 1), (1, 9), (4, 2), (6, 12), (17, 11)):
        x = torch.randn(1, 2, h, w)
        for found, expected in zip(session.run(None, {"x": x.numpy()}), Pool()(x), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

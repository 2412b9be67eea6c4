"""What follows the heads, in a graph of standard operators: the same detections, masks and labels in onnxruntime."""

import numpy as np
import onnxruntime
import torch
from torch import nn

from evm_deploy.exporters.onnx import finish, translate
from evm_deploy.models.heads.detections import Detections
from evm_deploy.models.heads.mask_rcnn.detect import find_instances
from evm_deploy.models.heads.pooling import pool_adaptively
from evm_deploy.models.heads.retinanet.detect import find_detections
from evm_deploy.models.heads.upernet.label import find_labels, resize_logits
from evm_deploy.models.last_steps import ImageSize

LOOPS = {"Loop", "Scan", "If", "SequenceMap"}


class Steps(nn.Module):
    """A function of a network's outputs for one image, and its size, with the network's own layers."""

    def __init__(self, network, function):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, outputs, size, scale):
        return self.function(self.network, outputs, ImageSize(size, scale))


def convert(steps, outputs, size, axes=None):
    """What runs it in onnxruntime, on the same arguments."""
    config = torch.fx.experimental._config
    shapes = None if axes is None else (axes, None, None)
    with torch.no_grad(), config.patch(backed_size_oblivious=True):
        traced = torch.export.export(steps, (outputs, *size), dynamic_shapes=shapes, strict=False)
    names = [f"output{i}" for i in range(len(outputs))] + ["size", "scale"]
    proto = finish(translate(traced, "the steps", input_names=names, opset_version=20))
    assert not {node.op_type for node in proto.graph.node} & LOOPS
    assert {node.domain for node in proto.graph.node} == {""}
    session = onnxruntime.InferenceSession(proto.SerializeToString())

    def run(outputs, size):
        given = zip(names, (*outputs, *size), strict=True)
        return [torch.from_numpy(found) for found in session.run(None, {n: x.numpy() for n, x in given})]

    return run


def test_detections_of_a_retinanet(retinanet, list_misses):
    network = retinanet.build("micro")
    photos = sorted(retinanet.photos("micro"), key=lambda each: each.size)[:2]

    def detect(network, outputs, size):
        return tuple(find_detections(network.config, outputs, size))

    outputs = network(photos[1].prepare(32))
    sides = [(torch.export.Dim(f"h{i}", min=2), torch.export.Dim(f"w{i}", min=2)) for i in range(5)]
    axes = tuple({2: h, 3: w} for h, w in sides) * 2
    run = convert(Steps(network, detect), outputs, photos[1].image_size, axes)
    for photo in photos:
        found = run(network(photo.prepare(32)), photo.image_size)
        assert list_misses(Detections(*found), photo.expected) == []
    nothing = [each - 50 for each in outputs[:5]] + list(outputs[5:])
    assert [tuple(each.shape) for each in run(nothing, photos[1].image_size)] == [(0, 4), (0,), (0,)]


def test_instances_of_a_mask_rcnn(mask_rcnn, list_misses):
    network = mask_rcnn.build("micro")
    photo = next(each for each in mask_rcnn.photos("micro") if each.size[0] < 200)

    def detect(network, outputs, size):
        found = find_instances(network, outputs, size)
        return (*found.detections, found.masks)

    outputs = network(photo.prepare(32))
    *found, masks = convert(Steps(network, detect), outputs, photo.image_size)(outputs, photo.image_size)
    assert list_misses(Detections(*found), photo.expected) == []
    expected = find_instances(network, outputs, photo.image_size)
    assert torch.equal(found[2], expected.detections.labels)
    torch.testing.assert_close(masks, expected.masks, rtol=0, atol=1e-3)


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

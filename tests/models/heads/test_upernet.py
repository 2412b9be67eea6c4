"""UperNet against mmsegmentation: logits, labels, the test at several scales, and its pooling at every size."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from evm_deploy.evaluation.evaluate_options import Scales
from evm_deploy.evaluation.several_scales import make_passes
from evm_deploy.manifest import Preprocessing
from evm_deploy.models.heads.pooling import make_pooling, pool_adaptively
from evm_deploy.models.heads.upernet.label import average_probabilities, find_labels, resize_logits
from evm_deploy.tolerances import GOLDEN_HEAD

RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
MARGIN = 1e-3  # between the two best logits of a pixel, from which on its label has to be the same


@pytest.mark.parametrize("size", ["micro", "tiny", "small", "base"])
def test_the_configuration_is_that_of_the_tensors(golden, upernet, size):
    shapes = golden.shapes(f"upernet_{size}")
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in shapes.items() if not name.startswith("auxiliary")}
        config = upernet.row.infer_config(tensors, None)
        found = upernet.row.network(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {n: shapes[n] for n in tensors}
    widths = {"micro": (24, 13), "tiny": (256, 150), "small": (384, 150), "base": (512, 150)}
    assert (config.width, config.num_classes) == widths[size]


def count_wrong_labels(logits, labels) -> int:
    """The pixels with another label, and a margin that leaves no doubt. logits: (classes, H, W)."""
    best = logits.topk(2, dim=0).values
    found = logits.argmax(0)
    return int(((found != torch.from_numpy(labels)) & (best[0] - best[1] > MARGIN)).sum())


@pytest.mark.parametrize("name", ["micro", "tiny"])
def test_outputs(golden, upernet, name):
    network = upernet.build(name)
    sizes = upernet.sizes("head", name)
    assert len(sizes) == 2
    for h, w in sizes:
        for form in (network, upernet.row.fold(network)) if name == "micro" else (network,):
            logits = form(golden.image(h, w))
            assert upernet.error(f"{name}_head_{h}x{w}", logits) < GOLDEN_HEAD
        full = resize_logits(logits, (h, w), (h, w))
        assert upernet.error(f"{name}_logits_{h}x{w}", full) < GOLDEN_HEAD
        assert count_wrong_labels(full[0], upernet.arrays[f"{name}_labels_{h}x{w}"]) == 0


@pytest.mark.parametrize("name", ["micro", pytest.param("tiny", marks=pytest.mark.slow)])
def test_photos(upernet, name):
    network, photos = upernet.build(name), upernet.photos(name)
    assert photos
    for photo in photos:
        logits = network(photo.prepare())
        full = resize_logits(logits, photo.size, photo.shape)
        assert upernet.error(f"{photo.prefix}_logits", full[0]) < GOLDEN_HEAD
        assert count_wrong_labels(full[0], photo["labels"]) == 0
        assert torch.equal(find_labels(logits, photo.size, photo.shape), full.argmax(1))
        once = F.interpolate(logits, photo.shape, mode="bilinear")  # one resize, not two
        assert upernet.error(f"{photo.prefix}_logits", once[0]) > GOLDEN_HEAD


def test_several_scales(upernet):
    """Of the smallest, C5 has fewer cells than the context is pooled to."""
    network, steps = (
        SimpleNamespace(module=upernet.build("micro"), last_steps=upernet.row.last_steps),
        Preprocessing((32, 32)),
    )
    scales = Scales(RATIOS, flip=True)
    for photo in upernet.photos("micro"):
        prefix = photo.prefix.rpartition("_scale")[0] + "_ms"
        passes = list(make_passes(network, photo.pixels, steps, scales))
        assert [list(size) for _, size in passes[::2]] == upernet.arrays[f"{prefix}_input_hw"].tolist()
        found = average_probabilities(passes, photo.shape)[0]
        expected = torch.from_numpy(upernet.arrays[f"{prefix}_probs"])
        sampled = found.flatten()[:: int(upernet.arrays[f"{prefix}_probs_stride"])]
        torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-4)
        assert count_wrong_labels(found, upernet.arrays[f"{prefix}_labels"][0]) == 0


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_pooling_is_adaptive_at_every_size(side):
    for h, w in itertools.product(range(1, 14), (1, 2, 5, 6, 7, 12, 31)):
        x = torch.randn(2, 3, h, w)
        torch.testing.assert_close(pool_adaptively(x, side), F.adaptive_avg_pool2d(x, side), rtol=1e-5, atol=1e-6)


def test_bins_that_overlap():
    assert (make_pooling(5, 3, torch.ones(1)) > 0).int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 1]]

"""The shapes of the input that an engine is built for."""

import dataclasses

from evm_deploy.bundle import Manifest
from evm_deploy.exporters.tensorrt.shapes import BATCHES, Profile, choose_shapes
from evm_deploy.manifest import Preprocessing
from evm_deploy.tasks import IOSpec


def of(manifest: Manifest, *shape: int | str, baked: bool = False) -> Profile:
    dtype, layout = ("uint8", "NHWC") if baked else ("float32", "NCHW")
    spec = IOSpec("image", shape, dtype, layout, "image")  # type: ignore[arg-type]
    preprocessing = Preprocessing((64, 48), baked=baked)
    return choose_shapes(dataclasses.replace(manifest, inputs=(spec,), preprocessing=preprocessing))


def test_one_shape_needs_no_arguments(manifest: Manifest) -> None:
    found = of(manifest, 1, 3, 64, 48)
    assert found == Profile("image", (1, 3, 64, 48), (1, 3, 64, 48), (1, 3, 64, 48))
    assert found.to_arguments() == ()


def test_an_open_batch_is_a_range(manifest: Manifest) -> None:
    least, best, most = BATCHES
    assert of(manifest, "batch", 3, 64, 48).most == (most, 3, 64, 48)
    found = of(manifest, "batch", 64, 48, 3, baked=True)
    assert found == Profile("image", (least, 64, 48, 3), (best, 64, 48, 3), (most, 64, 48, 3))
    assert found.to_arguments()[2] == f"--maxShapes=image:{most}x64x48x3"

"""What mmengine and mmcv record: a configuration with the preprocessor and the pipeline of the test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evm_deploy.models.recorded.config_text import parse_config
from evm_deploy.models.recorded.statement import Statement, as_mapping, compute_share, quote

# Where the pipeline of the test images stands: in mmengine's configurations, and in mmcv's.
_PIPELINES = (
    ("test_dataloader", "dataset", "pipeline"),
    ("test_pipeline",),
    ("val_dataloader", "dataset", "pipeline"),
    ("data", "test", "pipeline"),
    ("data", "val", "pipeline"),
)


def read_openmmlab(source: str, said: Any) -> Statement:
    """Reads the text of a configuration, or the configuration itself."""
    statement = Statement(source)
    config = parse_config(said) if isinstance(said, str) else as_mapping(said)
    if config is None:
        statement.remark("", "a configuration that cannot be read")
        return statement
    steps = _find_steps(config)
    _read_colours(config, steps, statement)
    _read_resizing(steps, statement)
    return statement


def read_model(content: Any) -> Mapping[str, Any]:
    """What the text of the configuration in a file says of its network; {}: there is none, or it cannot be read."""
    meta = as_mapping(as_mapping(content).get("meta"))
    for said in (meta.get("cfg"), meta.get("config")):
        config = parse_config(said) if isinstance(said, str) else as_mapping(said)
        if model := as_mapping((config or {}).get("model")):
            return model
    return {}


def _find_steps(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The steps of the pipeline by their types; mmpretrain.ResizeEdge is ResizeEdge."""
    for path in _PIPELINES:
        found: Any = config
        for name in path:
            found = as_mapping(found).get(name)
        if isinstance(found, (list, tuple)) and found:
            steps = [as_mapping(each) for each in found]
            return {str(each.get("type")).rpartition(".")[2]: each for each in steps}
    return {}


def _read_colours(config: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]], statement: Statement) -> None:
    """Mean, deviation and order: of the preprocessor, or of a step. Images are read as BGR."""
    model = as_mapping(config.get("model"))
    found = as_mapping(model.get("data_preprocessor")) or as_mapping(config.get("data_preprocessor"))
    if found.get("mean") is None:
        if not found and "Normalize" not in steps:
            return
        if "Normalize" not in steps:
            statement.remark("mean", "no mean and std in its data_preprocessor: give --mean and --std")
            return
        found = steps["Normalize"]
    statement.add_colours(found.get("mean"), found.get("std"), levels=True)
    if found.get("rgb_to_bgr"):
        statement.remark("channels", "rgb_to_bgr, which does not tell what was read: give --channels")
        return
    swapped = found.get("to_rgb", found.get("bgr_to_rgb", "Normalize" in steps and found is steps["Normalize"]))
    statement.add("channels", "RGB" if swapped else "BGR")


def _read_resizing(steps: Mapping[str, Mapping[str, Any]], statement: Statement) -> None:
    crop = as_mapping(steps.get("CenterCrop")).get("crop_size")
    if isinstance(crop, (list, tuple)) and len(crop) == 2 and crop[0] == crop[1]:
        crop = crop[0]
    if crop is not None:
        statement.add_size(crop)
    resize = steps.get("ResizeEdge") or steps.get("Resize")
    if resize is None:
        return
    _read_interpolation(resize, statement)
    scale = resize.get("scale", resize.get("size"))
    edge = isinstance(scale, int) and "ResizeEdge" in steps and resize.get("edge", "short") == "short"
    if isinstance(scale, (list, tuple)) and len(scale) == 2 and scale[1] == -1:  # of mmcls: the short edge
        scale, edge = scale[0], True
    if resize.get("keep_ratio"):
        statement.add_scale(scale)
    sides = tuple(scale) if isinstance(scale, (list, tuple)) else (scale, scale)
    square = all(isinstance(side, int) and side > 0 for side in sides) and len(set(sides)) == 1
    if "Pad" in steps or resize.get("keep_ratio") or not square or (not edge and "ResizeEdge" in steps):
        statement.remark("resize", "a resize to other sizes than an edge or a square: give --resize and --crop-pct")
        return
    (side,) = set(sides)
    if not edge:
        statement.add("resize", "squash")
    kept = side if crop is None and not edge else crop
    if crop is None and not edge:
        statement.add_size(side)
    if isinstance(kept, int) and 0 < kept <= side:
        statement.add("crop_pct", compute_share(kept, side))
    else:
        statement.remark("crop_pct", f"a crop to {quote(kept)} of {side}: give --crop-pct")


def _read_interpolation(resize: Mapping[str, Any], statement: Statement) -> None:
    """OpenCV, which mm libraries take unless told otherwise, has no antialiasing but in "area"."""
    name = resize.get("interpolation", "bilinear")
    statement.add("interpolation", name)
    if resize.get("backend", "cv2") != "pillow" and statement.values.get("interpolation") not in (None, "nearest"):
        statement.remark("interpolation", f"OpenCV's {name}, which is not antialiased; Pillow's, which is, is taken")

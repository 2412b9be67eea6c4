"""The resizing of detectors and segmenters as nodes of a graph: every bit as `keep_ratio.py` has it."""

import onnx
from onnx import TensorProto, helper

from evm_deploy.keep_ratio import ONE
from evm_deploy.manifest import Preprocessing
from evm_deploy.operators.body import Body

FITTED = "fitted"  # the name of the image that it gives
# Products of levels and weights lose so many bits, as quotients: four of rows, 16 of columns of these, then two.
ROWS, COLUMNS, LAST = 1 << 4, 1 << 16, 1 << 2


def prepend_fitting(proto: onnx.ModelProto, pixels: str, steps: Preprocessing) -> None:
    """Puts before the graph what makes its input FITTED, (1, 3, h, w) normalised, of its input `pixels`.

    pixels: uint8 (1, H, W, 3) of any size. FITTED is no input then.
    """
    body = Body()
    _write_fitting(body, pixels, steps)
    for node in body.nodes:
        for names in (node.input, node.output):
            names[:] = [name if name in (pixels, FITTED) else f"fit.{name}" for name in names]
        node.name = f"fit.{node.name}"
    nodes, inputs = list(proto.graph.node), [each for each in proto.graph.input if each.name != FITTED]
    del proto.graph.node[:], proto.graph.input[:]
    proto.graph.node.extend([*body.nodes, *nodes])
    proto.graph.input.extend(inputs)


def _write_fitting(b: Body, pixels: str, steps: Preprocessing) -> None:
    assert steps.scale is not None
    size = b("Cast", b("Shape", pixels, start=1, end=3), to=TensorProto.DOUBLE)  # (H, W)
    sides = [b(op, size, keepdims=1) for op in ("ReduceMax", "ReduceMin")]
    ratio = b("ReduceMin", b("Div", _doubles(b, *steps.scale), b("Concat", *sides, axis=0)), keepdims=1)
    rounded = b("Floor", b("Add", b("Mul", size, ratio), _doubles(b, 0.5)))
    new = b("Max", rounded, _doubles(b, 1.0))
    across = b("Div", b("Add", *_weigh(b, b("Cast", pixels, to=TensorProto.INT32), size, new, 2)), _int(b, ROWS))
    down = (b("Div", each, _int(b, COLUMNS)) for each in _weigh(b, across, size, new, 1))
    levels = b("Div", b("Add", b("Add", *down), _int(b, 2)), _int(b, LAST))
    mean, std = (b("Constant", value_floats=list(values)) for values in (steps.mean, steps.std))
    unit = b("Div", b("Cast", levels, to=TensorProto.FLOAT), b("Constant", value_float=255.0))
    b("Transpose", b("Div", b("Sub", unit, mean), std), perm=[0, 3, 1, 2], name=FITTED)


def _weigh(b: Body, x: str, size: str, new: str, axis: int) -> tuple[str, str]:
    """Of x (1, H, W, 3) int32 the two old places of each new one along the axis, by their weights."""
    which = b.scalar(axis - 1)
    length, wanted = b("Gather", size, which), b("Gather", new, which)
    zero, half, one = (b("Squeeze", _doubles(b, value)) for value in (0.0, 0.5, 1.0))
    step = b("Div", one, b("Div", wanted, length))  # rounded twice, as OpenCV does
    middles = b("Add", b("Range", zero, wanted, one), half)
    at = b("Cast", b("Sub", b("Mul", middles, step), half), to=TensorProto.FLOAT)
    before = b("Floor", at)
    share = b("Sub", at, before)
    first, last = (b("Cast", value, to=TensorProto.INT64) for value in (before, b("Sub", length, one)))
    rest = b("Sub", b("Constant", value_float=1.0), share)
    left, right = ((first, rest), (b("Add", first, b.scalar(1)), share))
    return _weigh_one(b, x, *left, last, axis), _weigh_one(b, x, *right, last, axis)


def _weigh_one(b: Body, x: str, place: str, weight: str, last: str, axis: int) -> str:
    whole = b("Cast", b("Round", b("Mul", weight, b("Constant", value_float=float(ONE)))), to=TensorProto.INT32)
    within = b("Min", b("Max", place, b.scalar(0)), last)
    return b("Mul", b("Gather", x, within, axis=axis), b("Reshape", whole, b.ints(-1, *[1] * (3 - axis))))


def _doubles(b: Body, *values: float) -> str:
    return b("Constant", value=helper.make_tensor("", TensorProto.DOUBLE, [len(values)], values))


def _int(b: Body, value: int) -> str:
    return b("Constant", value=helper.make_tensor("", TensorProto.INT32, [], [value]))

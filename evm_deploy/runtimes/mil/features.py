"""The inputs and outputs of a function for an app: arrays, images, class scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evm_deploy.runtimes.mil.problems import make_package_error, quote

ARRAYS = {65568: "float32", 65552: "float16", 131104: "int32", 65600: "float64", 131080: "int8"}
COLOURS = {10: "grey", 20: "RGB", 30: "BGR", 40: "grey of 16 bits"}


@dataclass(frozen=True)
class Feature:
    """One input or output. `kind` is "array", "image" or the format's name of another type, such as a dictionary.

    dtype: NumPy's name of the type of an array, or the colours of an image. shape: the shape of an array, (3, h, w) of
    an image, () if the format does not state it. others: further shapes, if the package lists several sizes.
    flexible: whether any size within a range is accepted.
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()
    flexible: bool = False

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape is accepted; for an image, only the last three sides count."""
        shape = tuple(shape[-3:] if self.kind == "image" else shape)
        return self.flexible or shape in (self.shape, *self.others)

    @property
    def type(self) -> str:
        """In words: "float32 (1, 3, 224, 224)", "RGB image (3, 224, 224)", "dictionary"."""
        kind = {"array": self.dtype, "image": f"{self.dtype} image"}.get(self.kind, self.kind)
        return f"{kind} {self.shape}" if self.shape else kind

    def __str__(self) -> str:
        return f"{quote(self.name)} {self.type}"


def read_features(messages: Iterable[Any]) -> dict[str, Feature]:
    """Reads `FeatureDescription` messages, by name. Raises BundleError: an unknown type, or a name used twice."""
    features: dict[str, Feature] = {}
    for message in messages:
        if message.name in features:
            raise make_package_error(f"{quote(message.name)} is described twice")
        features[message.name] = _read_feature(message.name, message.type)
    return features


def _read_feature(name: str, message: Any) -> Feature:
    kind = message.WhichOneof("Type")
    if kind == "multiArrayType":
        return _read_array(name, message.multiArrayType)
    if kind == "imageType":
        return _read_image(name, message.imageType)
    return Feature(name, (kind or "nothing").removesuffix("Type"))


def _read_array(name: str, message: Any) -> Feature:
    if message.dataType not in ARRAYS:
        raise make_package_error(f"{quote(name)} has arrays of the unknown type {message.dataType}")
    others = tuple(tuple(entry.shape) for entry in message.enumeratedShapes.shapes)
    flexible = message.WhichOneof("ShapeFlexibility") == "shapeRange"
    return Feature(name, "array", ARRAYS[message.dataType], tuple(message.shape), others, flexible)


def _read_image(name: str, message: Any) -> Feature:
    colours = COLOURS.get(message.colorSpace, str(message.colorSpace))
    others = tuple((3, entry.height, entry.width) for entry in message.enumeratedSizes.sizes)
    flexible = message.WhichOneof("SizeFlexibility") == "imageSizeRange"
    return Feature(name, "image", colours, (3, message.height, message.width), others, flexible)

"""The inputs and outputs of a function as an app sees them: arrays, images, class scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evm_deploy.runtimes.mil.problems import damaged, shown

ARRAYS = {65568: "float32", 65552: "float16", 131104: "int32", 65600: "float64", 131080: "int8"}
COLOURS = {10: "grey", 20: "RGB", 30: "BGR", 40: "grey of 16 bits"}


@dataclass(frozen=True)
class Feature:
    """One input or output. `kind` is "array", "image" or the format's name of another type, such as a dictionary.

    dtype: of an array, as NumPy names it; of an image, its colours. shape: the sides of an array, (3, h, w) of an
    image; () where the format does not say. others: further shapes that the package lists, in enumerated sizes.
    flexible: any size within a range.
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()
    flexible: bool = False

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape may be passed; for an image, of its last three sides."""
        shape = tuple(shape[-3:] if self.kind == "image" else shape)
        return self.flexible or shape in (self.shape, *self.others)

    @property
    def type(self) -> str:
        """In words: "float32 (1, 3, 224, 224)", "RGB image (3, 224, 224)", "dictionary"."""
        kind = {"array": self.dtype, "image": f"{self.dtype} image"}.get(self.kind, self.kind)
        return f"{kind} {self.shape}" if self.shape else kind

    def __str__(self) -> str:
        return f"{shown(self.name)} {self.type}"


def read_features(messages: Iterable[Any]) -> dict[str, Feature]:
    """By name, from `FeatureDescription` messages. Raises BundleError: a type that is not known, a name used twice."""
    features: dict[str, Feature] = {}
    for message in messages:
        if message.name in features:
            raise damaged(f"{shown(message.name)} is described twice")
        features[message.name] = _feature(message.name, message.type)
    return features


def _feature(name: str, message: Any) -> Feature:
    kind = message.WhichOneof("Type")
    if kind == "multiArrayType":
        return _array(name, message.multiArrayType)
    if kind == "imageType":
        return _image(name, message.imageType)
    return Feature(name, (kind or "nothing").removesuffix("Type"))


def _array(name: str, message: Any) -> Feature:
    if message.dataType not in ARRAYS:
        raise damaged(f"{shown(name)} has arrays of type {message.dataType}, which is not known")
    others = tuple(tuple(entry.shape) for entry in message.enumeratedShapes.shapes)
    flexible = message.WhichOneof("ShapeFlexibility") == "shapeRange"
    return Feature(name, "array", ARRAYS[message.dataType], tuple(message.shape), others, flexible)


def _image(name: str, message: Any) -> Feature:
    colours = COLOURS.get(message.colorSpace, str(message.colorSpace))
    others = tuple((3, entry.height, entry.width) for entry in message.enumeratedSizes.sizes)
    flexible = message.WhichOneof("SizeFlexibility") == "imageSizeRange"
    return Feature(name, "image", colours, (3, message.height, message.width), others, flexible)

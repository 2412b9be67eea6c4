"""The shapes of the input that an engine is built for: one, or a range of batches where the graph leaves it open."""

from dataclasses import dataclass

from evm_deploy.manifest import Manifest

# Least, the one that the engine is tuned for, and most. An engine reserves memory for its largest shape: of T in fp16
# 1.1 GB for 16 images of 224. An open image size would take 8.5 GB for 4 images of 448, and stop fusions.
BATCHES = (1, 4, 16)


@dataclass(frozen=True)
class Profile:
    """The least shape of an input, the one that the engine is tuned for, and the greatest."""

    input: str
    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]

    def to_arguments(self) -> tuple[str, ...]:
        """The options of trtexec for it; none for a single shape, which the graph says."""
        if self.least == self.most:
            return ()
        sides = (("min", self.least), ("opt", self.best), ("max", self.most))
        return tuple(f"--{name}Shapes={self.input}:{'x'.join(map(str, shape))}" for name, shape in sides)


def choose_shapes(manifest: Manifest) -> Profile:
    """The shapes of the bundle's input: of an open batch 1 to 16 images."""
    spec = manifest.inputs[0]
    sides = [(n, n, n) if isinstance(n, int) else BATCHES for n in spec.shape]
    least, best, most = zip(*sides, strict=True)
    return Profile(spec.name, least, best, most)

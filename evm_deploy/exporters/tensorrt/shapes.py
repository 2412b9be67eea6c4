"""Chooses the input shapes of an engine: one, or a range of batch sizes if the batch of the graph is open."""

from dataclasses import dataclass

from evm_deploy.manifest import Manifest

# The least, the one for which the engine is tuned, and the greatest. An engine reserves memory for its largest shape:
# of T in fp16 1.1 GB for 16 images of 224. An open image size would take 8.5 GB for 4 images of 448, and stop fusions.
BATCHES = (1, 4, 16)


@dataclass(frozen=True)
class Profile:
    """The least shape of an input, the one that the engine is tuned for, and the greatest."""

    input: str
    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]

    def to_arguments(self) -> tuple[str, ...]:
        """The trtexec options for it; none for a single shape, which the graph contains."""
        if self.least == self.most:
            return ()
        sides = (("min", self.least), ("opt", self.best), ("max", self.most))
        return tuple(f"--{name}Shapes={self.input}:{'x'.join(map(str, shape))}" for name, shape in sides)


def choose_shapes(manifest: Manifest) -> Profile:
    """Chooses the shapes of the bundle's input: 1 to 16 images if the batch is open."""
    spec = manifest.inputs[0]
    sides = [(n, n, n) if isinstance(n, int) else BATCHES for n in spec.shape]
    least, best, most = zip(*sides, strict=True)
    return Profile(spec.name, least, best, most)

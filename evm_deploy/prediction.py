"""What a bundle says of images, by itself alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.images import load_image, preprocess
from evm_deploy.runtimes import runtime_of
from evm_deploy.tasks import IOSpec


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, as (label, probability), best first."""

    image: Path
    top: tuple[tuple[str, float], ...]


def best_classes(bundle: Bundle, images: Sequence[Path], *, top: int, library: bool) -> list[Prediction]:
    """The `top` classes of each image; `library` uses our operators where they are built.

    Raises BundleError (a backbone has no classes; scores that are none), ImageError.
    """
    manifest, where = bundle.manifest, bundle.path
    if manifest.task != "classification":
        raise BundleError(f"{where} is a backbone: it gives feature maps, not classes.", "predict with a classifier.")
    labels, found = bundle.labels(), []
    with runtime_of(bundle).open_bundle(bundle, library=library) as runner:
        for image in images:
            scores = runner.run(preprocess(load_image(image), manifest.preprocessing))[0]
            if not _are_scores(scores, manifest.outputs[0]):
                raise BundleError(f"{where} gives no scores for {image}.", "verify the bundle, or export it again.")
            shares = _probabilities(scores[0], manifest.outputs[0])
            names = [f"class {i}" for i in range(len(shares))] if labels is None else labels
            if len(names) != len(shares):
                raise BundleError(f"{where} has {len(names)} labels for {len(shares)} classes.", "export it again.")
            best = np.argsort(-shares, kind="stable")[:top]
            found.append(Prediction(image, tuple((names[i], float(shares[i])) for i in best)))
    return found


def _are_scores(scores: npt.NDArray[np.float32], spec: IOSpec) -> bool:
    if not (spec.fits(scores.shape, str(scores.dtype)) and bool(np.isfinite(scores).all())):
        return False
    return spec.meaning != "probabilities" or bool(((scores > -1e-3) & (scores < 1 + 1e-3)).all())


def _probabilities(scores: npt.NDArray[np.float32], spec: IOSpec) -> npt.NDArray[np.float64]:
    shares = scores.astype(np.float64)
    if spec.meaning == "logits":
        shares = np.exp(shares - shares.max())
        shares /= shares.sum()
    return shares

"""What a bundle says of images, by itself alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.images import load_image
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes import find_runtime
from evm_deploy.tasks import NotAnAnswer, find_task


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
    task = find_task(manifest.task)
    if isinstance(task.show, str):
        raise BundleError(f"{where} is {task.title}: it {task.show}.", "predict with a classifier.")
    labels, found = bundle.labels(), []
    with find_runtime(bundle).open_bundle(bundle, library=library) as runner:
        for image in images:
            outputs = runner.run(preprocess(load_image(image), manifest.preprocessing))
            try:
                shown = task.show(outputs, manifest.outputs, labels, top)
            except NotAnAnswer as answer:
                fix = "verify the bundle, or export it again."
                raise BundleError(f"{where} {answer} for {image}.", fix) from None
            found.append(Prediction(image, shown))
    return found

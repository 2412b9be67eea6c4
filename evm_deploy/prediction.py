"""What a bundle says of images, by itself alone; and drawings of what it found in them."""

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from evm_deploy.bundle import Bundle
from evm_deploy.decoding import UInt8
from evm_deploy.errors import BundleError, OptionError, OutputError
from evm_deploy.files import write_file
from evm_deploy.images import list_image_files, load_image
from evm_deploy.preprocessing import place_image, preprocess
from evm_deploy.runtimes import find_runtime
from evm_deploy.showing.findings import Findings, draw_pictures
from evm_deploy.tasks import NotAnAnswer, find_task

Answer = Callable[[Path, UInt8, Sequence[Any]], "Prediction"]  # by the outputs for an image


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, as (label, probability), best first.

    Of a detector or segmenter `findings` are what it found, and `top` the names and scores of these, or the names of
    the classes and their shares of the pixels. saved: the files that were written of it.
    """

    image: Path
    top: tuple[tuple[str, float], ...]
    findings: Findings | None = None
    saved: tuple[Path, ...] = ()


def predict_images(
    bundle: Bundle, images: Sequence[Path], *, top: int, library: bool, save: Path | None = None
) -> list[Prediction]:
    """The `top` classes of each image, or what is found in it; `library` uses our operators where they are built.

    images: files, and folders of them. save: a new folder for drawings of what is found. Raises BundleError (a backbone
    has no classes; scores that are none), InputError (no image there), ImageError, OptionError (nothing to draw),
    OutputError.
    """
    files = [file for path in images for file in list_image_files(path)]
    answer, found = _choose_answer(bundle, top, save), []
    try:
        with find_runtime(bundle).open_bundle(bundle, library=library) as runner:
            for number, image in enumerate(files):
                pixels = load_image(image)
                outputs = runner.run(preprocess(pixels, bundle.manifest.preprocessing))
                try:
                    one = answer(image, pixels, outputs)
                except NotAnAnswer as error:
                    fix = "verify the bundle, or export it again."
                    raise BundleError(f"{bundle.path} {error} for {image}.", fix) from None
                found.append(one if save is None else _save(one, pixels, number, save))
    except BaseException:  # an interrupt too: all of them or none
        if save is not None:
            shutil.rmtree(save, ignore_errors=True)
        raise
    return found


def _choose_answer(bundle: Bundle, top: int, save: Path | None) -> Answer:
    manifest, labels, where = bundle.manifest, bundle.labels(), bundle.path
    task = find_task(manifest.task)
    locate, show = task.locate, task.show
    if locate is not None:
        if save is not None and save.exists():
            raise OutputError(f"{save} exists.", "give --save a folder that does not.")

        def find(image: Path, pixels: UInt8, outputs: Sequence[Any]) -> Prediction:
            placement = place_image(pixels.shape[0], pixels.shape[1], manifest.preprocessing)
            findings = locate(outputs, placement, labels)
            return Prediction(image, tuple(findings.describe()), findings)

        return find
    if isinstance(show, str):
        raise BundleError(f"{where} is {task.title}: it {show}.", "predict with a classifier.")
    if save is not None:
        raise OptionError(f"{where} is {task.title}: there is nothing to draw.", "leave --save out.")
    return lambda image, pixels, outputs: Prediction(image, show(outputs, manifest.outputs, labels, top))


def _save(one: Prediction, pixels: UInt8, number: int, folder: Path) -> Prediction:
    """Writes the drawing and, of classes of pixels, their map, with 8 or 16 bits a pixel."""
    assert one.findings is not None
    name = f"{number:03d}-{one.image.stem}"
    pictures = {folder / f"{name}{end}": picture for end, picture in draw_pictures(one.findings, pixels).items()}
    for path, picture in pictures.items():
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG")
        write_file(path, content.getvalue(), "--save")
    return Prediction(one.image, one.top, one.findings, tuple(pictures))

"""Options come before what a checkpoint records, and that before the defaults; all of it is written down."""

import dataclasses
from typing import Any

import pytest

from evm_deploy.errors import OptionError
from evm_deploy.exporters.choose_preprocessing import choose_preprocessing
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.manifest import Manifest, Preprocessing, PreprocessingRecord
from evm_deploy.models.recorded.read import RecordedPreprocessing, read_recorded
from evm_deploy.options import make_options, read_options

SMALL: dict[str, Any] = {"image_size": (64, 64)}
HALF, TENTHS = (0.5, 0.5, 0.5), (0.1, 0.2, 0.3)
SAID = read_recorded({"args": {"mean": HALF, "std": HALF, "crop_mode": "border", "crop_pct": 0.9}})


def test_nothing_said_and_nothing_given_is_the_default() -> None:
    assert choose_preprocessing(ExportOptions(**SMALL), RecordedPreprocessing()) == (
        Preprocessing((64, 64)),
        PreprocessingRecord(),
    )


def test_each_option_comes_before_what_is_recorded() -> None:
    options: dict[str, Any] = {
        "mean": TENTHS,
        "std": TENTHS,
        "crop_pct": 1.0,
        "interpolation": "lanczos",
        "resize": "letterbox",
        "channels": "BGR",
        "fill": 7,
    }
    for name, value in options.items():
        steps, record = choose_preprocessing(ExportOptions(**SMALL, **{name: value}), SAID)
        expected: dict[str, Any] = {**SAID.values, name: value}
        assert steps == Preprocessing((64, 64), **expected)
        assert record.sources == {**dict.fromkeys(SAID.values, "args"), name: "the options"}


def test_another_resize_takes_the_recorded_fill_away() -> None:
    steps, record = choose_preprocessing(ExportOptions(**SMALL, resize="cover"), SAID)
    assert (steps.resize, steps.fill, "fill" in record.sources) == ("cover", 0, False)


def test_a_preprocessing_is_there_in_the_place_of_what_is_recorded() -> None:
    mine = Preprocessing((224, 224), 1.0, "nearest", mean=TENTHS)
    options = ExportOptions(**SMALL, preprocessing=mine, std=HALF, bake_preprocessing=True)
    steps, record = choose_preprocessing(options, SAID)
    assert steps == Preprocessing((64, 64), 1.0, "nearest", mean=TENTHS, std=HALF, baked=True)
    assert set(record.sources.values()) == {"the options"}


@pytest.mark.parametrize("resize", [None, "cover", "squash"])
def test_a_fill_where_nothing_is_padded(resize: str | None) -> None:
    with pytest.raises(OptionError, match="--fill 0 is what a letterbox is padded with") as caught:
        choose_preprocessing(ExportOptions(**SMALL, resize=resize, fill=0), RecordedPreprocessing())
    assert "--resize letterbox" in caught.value.fix


def test_a_remark_on_what_an_option_decides_is_not_made() -> None:
    hamming = read_recorded({"args": {"interpolation": "hamming"}})
    assert choose_preprocessing(ExportOptions(**SMALL), hamming)[1].remarks == (
        "args of the checkpoint states interpolation 'hamming', which export does not know",
    )
    assert not choose_preprocessing(ExportOptions(**SMALL, interpolation="bilinear"), hamming)[1].remarks


def test_a_size_in_the_checkpoint_is_reported_and_never_taken() -> None:
    sized = read_recorded({"pretrained_cfg": {"input_size": (3, 288, 256)}})
    steps, record = choose_preprocessing(ExportOptions(**SMALL), sized)
    assert steps.image_size == (64, 64)
    assert record.remarks == (
        "pretrained_cfg of the checkpoint states images of 288x256; the model takes 64x64, as --image-size says",
    )
    assert not choose_preprocessing(ExportOptions(image_size=(288, 256)), sized)[1].remarks


def test_one_line_says_what_is_not_the_default(manifest: Manifest) -> None:
    usual = {"channels": "RGB", "crop_pct": 0.875}
    recorded = RecordedPreprocessing({"mean": HALF, **usual}, dict.fromkeys(("mean", *usual), "args"))
    steps, record = choose_preprocessing(ExportOptions(**SMALL, std=TENTHS, resize="squash"), recorded)
    made = dataclasses.replace(
        manifest, preprocessing=dataclasses.replace(steps, image_size=(32, 32)), preprocessing_record=record
    )
    assert made.describe_choices() == (
        "images are prepared with mean 0.5 0.5 0.5 by args; std 0.1 0.2 0.3, resize squash by the options",
    )
    assert not manifest.describe_choices()


# What is given on the command line


def read_command(**texts: str) -> ExportOptions:
    values = {name: one.default for name, one in read_options(ExportOptions).items()}
    return make_options(ExportOptions, values | texts)


def test_numbers_are_read_from_text() -> None:
    made = read_command(mean="0.5,0.25,-0.1", std="1,1, 0.5")
    assert (made.mean, made.std) == ((0.5, 0.25, -0.1), (1, 1, 0.5))


@pytest.mark.parametrize(
    ("texts", "cause", "fix"),
    [
        ({"mean": "0.5,0.5"}, "is not three numbers", "one a channel"),
        ({"mean": "1,1,1,1"}, "is not three numbers", "one a channel"),
        ({"std": "0.5"}, "is not three numbers", "one a channel"),
        ({"mean": "grey"}, "'grey' is not three numbers", "write 0.5,0.5,0.5"),
        ({"mean": ""}, "is not three numbers", "write 0.5,0.5,0.5"),
        ({"mean": "nan,0,0"}, "--mean nan is not within", "0..1"),
        ({"std": "1,inf,1"}, "--std inf is not within", "0..1"),
        ({"std": "0.5,0,0.5"}, "--std 0.0 is not within", "none that is 0"),
        ({"mean": "123.675,116.28,103.53"}, "--mean 123.675 is not within", "divide a mean of 0..255"),
        ({"std": "58.395,57.12,57.375"}, "--std 58.395 is not within", "by 255"),
        ({"crop_pct": 87.5}, "--crop-pct 87.5 is not within 0.1 to 1", ""),
        ({"interpolation": "area"}, "no interpolation 'area'", ""),
        ({"resize": "stretch"}, "no way to resize 'stretch'", "cover, squash, letterbox"),
        ({"channels": "rgb"}, "no order of channels 'rgb'", "RGB"),
        ({"fill": 256}, "--fill 256 is not within 0 to 255", ""),
    ],
)
def test_what_cannot_be_meant(texts: dict[str, Any], cause: str, fix: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_command(**texts)
    assert cause in caught.value.cause
    assert fix in caught.value.fix


def test_a_list_of_numbers_in_python_is_refused() -> None:
    with pytest.raises(OptionError, match="is not three numbers"):
        ExportOptions(mean=[0.5, 0.5, 0.5])  # type: ignore[arg-type]

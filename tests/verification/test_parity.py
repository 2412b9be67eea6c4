"""The metrics and the gate."""

import numpy as np
import pytest

from evm_deploy.tasks import CLASSIFICATION
from evm_deploy.tasks.agreement import compare
from evm_deploy.tolerances import PARITY
from evm_deploy.verification.parity import ParityReport, compare_runners


class Fixed:
    """A runner that gives what it was made with."""

    name = "fixed"

    def __init__(self, *outputs: np.ndarray) -> None:
        self.outputs = list(outputs)

    def run(self, image: np.ndarray) -> list[np.ndarray]:
        return self.outputs

    def close(self) -> None:
        pass


def gate(found: np.ndarray, expected: np.ndarray, softmax: bool = False, tolerance: float = 1e-4) -> bool:
    image = {"x": np.zeros(1, np.float32)}
    outputs = CLASSIFICATION.describe_outputs([expected.shape], softmax=softmax)
    rows = compare_runners([Fixed(found)], image, {"x": [expected]}, outputs, tolerance, task=CLASSIFICATION)
    return ParityReport("test", tolerance, rows).passed


def array(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_metrics_by_hand() -> None:
    found = compare(array(3.0, 4.0), array(3.0, 2.0), scores=True)
    assert found.max_abs == 2
    assert found.relative == pytest.approx(2 / 3)
    assert found.cosine == pytest.approx(17 / (5 * 13**0.5))
    assert found.psnr == pytest.approx(10 * np.log10(9 / 2))
    assert found.top1 == 0


def test_equal_arrays() -> None:
    found = compare(array(1, 2), array(1, 2), scores=True)
    assert (found.max_abs, found.psnr, found.top1) == (0, np.inf, 1)
    assert compare(array(0, 0), array(0, 0), scores=False).cosine == 1


def test_small_outputs_are_compared_absolutely() -> None:
    assert compare(array(1e-6), array(0), scores=False).relative == pytest.approx(1e-6)


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare(array(1, 2), array(1), scores=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails(bad: float) -> None:
    assert not gate(array(bad, 1), array(0, 1))


def test_the_gate() -> None:
    logits = array(1, 2, 3)
    assert gate(logits + 5e-5, logits)
    assert not gate(logits + 5e-4, logits)


def test_another_first_class_fails_unless_it_was_a_tie() -> None:
    far = array(1.0, 1.1)
    assert not gate(far[:, ::-1].copy(), far, tolerance=0.04)
    near = array(1.0, 1.00001)
    assert gate(near[:, ::-1].copy(), near)


def test_probabilities_are_held_to_the_scale_of_logits() -> None:
    """A thousand classes at about 1/1000: an absolute tolerance of 1e-4 would pass ten per cent off."""
    logits = np.random.default_rng(0).standard_normal((1, 1000))

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x)
        return (e / e.sum()).astype(np.float32)

    assert gate(softmax(logits + 3), softmax(logits), softmax=True)
    off = logits.copy()
    off[0, 7] += 0.01
    assert np.abs(softmax(off) - softmax(logits)).max() < 1e-4
    assert not gate(softmax(off), softmax(logits), softmax=True)


def test_nothing_compared_is_not_a_pass() -> None:
    assert not ParityReport("test", 1e-4, ()).passed


def test_every_tolerance_sees_a_broken_scan() -> None:
    """Losing the carry moves T's logits by 0.006 on a scale of 2.1 (the golden weights)."""
    assert max(PARITY.values()) < 0.006 / 2.1


def test_the_summary_shows_the_worst_of_each_output() -> None:
    images = {name: np.zeros(1, np.float32) for name in "abc"}
    expected = {"a": [array(1, 2)], "b": [array(1, 3)], "c": [array(1, 2)]}
    outputs = CLASSIFICATION.describe_outputs([(1, 2)])
    rows = compare_runners([Fixed(array(1, 2))], images, expected, outputs, 1e-4, task=CLASSIFICATION)
    (found,) = ParityReport("test", 1e-4, rows).summarise()
    assert (found.input, found.max_abs, found.top1, found.passed) == ("3 inputs", 1.0, 1.0, False)

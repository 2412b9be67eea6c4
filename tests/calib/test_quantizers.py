"""A quantiser for each target of the table."""

import inspect

import pytest

from evm_deploy.calib import quantizer_of
from evm_deploy.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_quantiser_of_the_same_form(target: str) -> None:
    module = quantizer_of(target)
    assert list(inspect.signature(module.quantize).parameters) == ["bundle", "samples", "options", "path", "progress"]
    assert list(inspect.signature(module.check).parameters) == ["bundle", "source"]

"""A quantiser for each target of the table that has integer models."""

import inspect

import pytest

from evm_deploy.calib import find_quantizer
from evm_deploy.targets import TARGETS


@pytest.mark.parametrize("target", [name for name, row in TARGETS.items() if row.quantizer])
def test_every_target_has_a_quantiser_of_the_same_form(target: str) -> None:
    module = find_quantizer(target)
    assert list(inspect.signature(module.quantize).parameters) == ["bundle", "samples", "options", "path", "progress"]
    assert list(inspect.signature(module.check).parameters) == ["bundle", "source"]

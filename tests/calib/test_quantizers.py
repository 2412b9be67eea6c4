"""The table of targets names a quantiser for each."""

import importlib
import inspect

import pytest

from evm_deploy.exporters.export_options import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_quantiser_of_the_same_form(target: str) -> None:
    module = importlib.import_module(TARGETS[target].quantizer)
    assert list(inspect.signature(module.quantize).parameters) == ["bundle", "samples", "options", "path", "progress"]
    assert list(inspect.signature(module.check).parameters) == ["bundle", "source"]

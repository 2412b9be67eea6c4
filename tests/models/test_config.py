"""What a configuration accepts and what it says otherwise."""

import pytest

from evm_deploy.errors import OptionError
from evm_deploy.models import VARIANTS, EfficientVMamba, ModelConfig, count_parameters


@pytest.mark.parametrize(("name", "millions"), [("tiny", 6.494), ("small", 11.274), ("base", 33.717)])
def test_variants_have_the_papers_parameter_counts(name, millions):
    assert count_parameters(EfficientVMamba(ModelConfig.variant(name))) / 1e6 == pytest.approx(millions, abs=5e-4)


def test_variant_with_changes():
    assert ModelConfig.variant("tiny", num_classes=7).num_classes == 7
    assert VARIANTS["tiny"].num_classes == 1000


def test_lists_are_as_good_as_tuples():
    assert ModelConfig([8, 16, 32, 64], [1, 1, 1, 1]) == ModelConfig((8, 16, 32, 64), (1, 1, 1, 1))


def test_derived_values():
    config = ModelConfig((48, 100), (1, 1), blocks=("evss", "evss"), step=3)
    assert (config.rank(0), config.rank(1), config.directions) == (3, 7, 9)
    assert ModelConfig((48, 100), (1, 1), blocks=("evss", "evss"), scan="ss2d", step=3).directions == 4
    assert ModelConfig((48,), (1,), blocks=("inres",), num_classes=None).outputs == (0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dims": (48, 96, 192)}, "depths has 4 entries for 3 stages"),
        ({"dt_rank": (1, 2)}, "dt_rank has 2 entries"),
        ({"depths": (2, 0, 2, 2)}, "depths is"),
        ({"d_state": -1}, "d_state is -1"),
        ({"step": 1.5}, "step is 1.5"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": True}, "num_classes is True"),
        ({"blocks": ("evs", "evss", "inres", "inres")}, "did you mean 'evss'"),
        ({"scan": "mamba"}, "choose one of: es2d, ss2d"),
        ({"num_classes": None, "out_indices": (0, 4)}, "out_indices (0, 4)"),
        ({"num_classes": None, "out_indices": ()}, "out_indices ()"),
    ],
)
def test_wrong_values_are_option_errors(changes, said):
    with pytest.raises(OptionError) as caught:
        ModelConfig.variant("tiny", **changes)
    assert said in str(caught.value)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'tiny'"):
        ModelConfig.variant("tinny")

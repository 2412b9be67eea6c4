"""What the command line makes of `profile`'s own words."""

import pytest

from evm_deploy.cli.profile import parse_cores
from evm_deploy.errors import OptionError


@pytest.mark.parametrize(("text", "cores"), [("", ()), ("2", (2,)), ("0, 4-6", (0, 4, 5, 6)), ("3-3,3", (3,))])
def test_cores(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["3-1", ",", "0,", "-1", "a", "²", "0-99999", "1-2-3"])
def test_what_is_no_list_of_cores(text: str) -> None:
    with pytest.raises(OptionError, match="not a list of cores"):
        parse_cores(text)

"""Options are read as they stand, or refused with the words that help."""

from __future__ import annotations

import pytest

from rocbench.commands import options
from rocbench.errors import InputError


def test_flags_and_variables() -> None:
    """`env.` goes to the environment, everything else is a flag with its value read."""
    assert ({"block_size": 64, "a": None}, {"X_1": "2"}) == options.settings(
        ["block_size=64", "a=none", "env.X_1=2"]
    )


@pytest.mark.parametrize("item", ["env.=1", "env.A B=1", "env.1A=1", "env.A-B=1"])
def test_names_that_no_shell_takes(item: str) -> None:
    """The plan prints a line to be pasted into a shell: such a name would be run as a command there."""
    with pytest.raises(InputError, match="not a valid name of an environment variable"):
        options.settings([item])


@pytest.mark.parametrize("text", ["inf", "nan", "0", "1,-2"])
def test_rates_without_end(text: str) -> None:
    """A rate is a positive number that ends."""
    with pytest.raises(InputError, match="cannot read"):
        options.positive(text, "--rate", float, "0.5,2,8")


@pytest.mark.parametrize(
    "item", ["a=" + "9" * 5000, "a=" + "9" * 21, "a=" + '{"b":' * 900, 'a={"b": 1e999}', "a=[1"]
)
def test_values_out_of_bounds(item: str) -> None:
    """What begins as JSON must be JSON that everything here can hold; the message is short."""
    with pytest.raises(InputError, match="--set: cannot read") as told:
        options.settings([item])
    assert len(told.value.text()) < 250


def test_lists_of_numbers_out_of_bounds() -> None:
    """They do not fill a screen."""
    for text in ("9" * 5000, "1e30", "1," * 9000):
        with pytest.raises(InputError, match="--concurrency: cannot read") as told:
            options.positive(text, "--concurrency", int, "1,64,1000")
        assert len(told.value.text()) < 200

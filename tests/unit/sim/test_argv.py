"""The argv of vllm serve."""

from __future__ import annotations

import pytest

from rocbench.rules.load import shipped
from rocbench.rules.notices import unknown_names
from rocbench.sim.argv import UsageError, parse

NAMES = shipped().names


def flags(text, version="0.14.1"):
    """Parsed flags of a line."""
    return parse(text.split(), version, NAMES)


def test_values_switches_and_short_forms():
    """`--flag value`, `--flag=value`, `--no-flag`, `-tp`, `_` for `-`, and dotted JSON keys are understood."""
    parsed = flags(
        "org/model -tp 8 --max_model_len=4096 --no-enable-prefix-caching --enforce-eager "
        "--compilation-config.cudagraph_mode FULL --served-model-name a b --port 1"
    )
    assert parsed.model == "org/model"
    assert parsed.integer("tensor-parallel-size", 1) == 8
    assert parsed.integer("max-model-len", 0) == 4096
    assert not parsed.switch("enable-prefix-caching", default=True)
    assert parsed.switch("enforce-eager")
    assert parsed.flags["served-model-name"] == ("a", "b")
    assert parsed.integer("port", 8000) == 1


def test_a_switch_before_the_model_does_not_eat_it():
    """Switches take no value."""
    assert flags("--trust-remote-code org/model").model == "org/model"


@pytest.mark.parametrize(("text", "value"), [("32k", 32_000), ("32K", 32_768), ("1.5k", 1500), ("128", 128)])
def test_human_numbers(text, value):
    """k is a thousand and K 1,024, as in vLLM's own parser."""
    assert flags(f"m --max-model-len {text}").integer("max-model-len", 0) == value


def test_unknown_flags_are_named():
    """argparse's words, all of them at once."""
    with pytest.raises(UsageError, match="unrecognized arguments: --nonsense --also-not"):
        flags("m --nonsense --also-not")


def test_a_flag_of_another_version_is_unknown():
    """--disable-log-requests went after 0.16 and came back in 0.33, --moe-backend came with 0.17."""
    assert flags("m --disable-log-requests", "0.14.1").switch("disable-log-requests")
    with pytest.raises(UsageError, match="--disable-log-requests"):
        flags("m --disable-log-requests", "0.32.0")
    assert flags("m --disable-log-requests", "0.33.0").switch("disable-log-requests")
    assert flags("m --moe-backend aiter", "0.33.0").text("moe-backend") == "aiter"
    with pytest.raises(UsageError, match="--moe-backend"):
        flags("m --moe-backend aiter", "0.14.1")


@pytest.mark.parametrize("version", ["0.12.0", "0.16.0", "0.33.0"])
def test_the_simulator_refuses_the_flags_that_the_plan_warns_about(version):
    """One check of unknown flags: for flags of every release, and for one that no release has."""
    for name in (*NAMES.flags, "max-num-seq"):
        switch = name in NAMES.flags and NAMES.flags[name].kind in {"bool", "switch"}
        try:
            flags(f"org/model --{name}" if switch else f"org/model --{name} 1", version)
            refused = False
        except UsageError as error:
            refused = f"unrecognized arguments: --{name}" in str(error)
        assert refused == bool(unknown_names([name], [], version, NAMES)), name


def test_a_value_that_is_no_number():
    """The message names the flag and the value."""
    with pytest.raises(UsageError, match="argument --port: invalid int value: 'x'"):
        flags("m --port x").integer("port", 1)
    with pytest.raises(UsageError, match="argument --port: expected one argument"):
        flags("m --port")
    with pytest.raises(UsageError, match="invalid float value"):
        flags("m --gpu-memory-utilization lots").number("gpu-memory-utilization", 0.9)


def test_a_model_is_needed():
    """Nothing is served by default."""
    with pytest.raises(UsageError, match="model must be named"):
        flags("--port 1")

"""The nasty server's answers over real sockets, by both transports: each request has its word, and the load ends."""

from __future__ import annotations

import pytest

from nasty import MODES, TOKENS, nasty
from rocbench.load import drive
from rocbench.load.spec import WindowPlan
from rocbench.records import FAILURES
from truths import load_spec

SAMPLE = (
    "header_64mb",
    "status_1xx_flood",
    "line_32mib",
    "deep",
    "gzip_bomb",
    "refusal_endless",
    "tokens_3e9",
)
COMPLETIONS = [name for name, mode in MODES.items() if mode.path == "completion"]
REST = [name for name in COMPLETIONS if name not in SAMPLE]


def words(name: str, transport: str) -> set[str]:
    """How the load's requests ended: classes of failure, and `measured` for those that did not fail."""
    with nasty(MODES[name]) as url:
        spec = load_spec(
            url,
            users=2,
            tokens=TOKENS,
            window=WindowPlan(max_requests=4, max_duration_s=6.0),
            request_timeout_s=1.5,
            transport=transport,
        )
        result = drive(spec)
    rows = result.requests[result.requests["request_id"] < 2**40]
    assert len(rows) == 4
    assert (rows["failure"] < 0).any()  # the good answers beside them
    return {"measured" if failure < 0 else FAILURES[failure].value for failure in rows["failure"].tolist()}


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
@pytest.mark.parametrize("name", SAMPLE)
def test_each_answer_has_its_word(name, transport):
    """Heads, events and bodies beyond measure fail their request; the good ones beside them complete."""
    found = words(name, transport) - {"measured"}
    assert found <= set(MODES[name].words)
    assert found or "measured" in MODES[name].words


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
@pytest.mark.parametrize("name", REST)
def test_every_answer_has_its_word(name, transport):
    """The rest of the table."""
    test_each_answer_has_its_word(name, transport)

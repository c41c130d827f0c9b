"""The nasty server's answers over real sockets, by both transports: each request has its word, and the load ends."""

from __future__ import annotations

import pytest

from nasty import MODES, as_told, driven

FAST = ("line_32mib", "header_64mb", "deep")
SLOW = (
    "status_1xx_flood",
    "trailer_endless",
    "gzip_bomb",
    "refusal_endless",
    "tokens_3e9",
    "heartbeats_endless",
    "reset",
)


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_each_answer_has_its_word(name, transport):
    """What is beyond measure fails its request; the good answers beside it complete."""
    found = driven(MODES[name], transport)

    assert as_told(MODES[name], found), found
    assert "measured" in found

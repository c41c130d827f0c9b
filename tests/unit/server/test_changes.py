"""What a server told of itself, held against what it tells now."""

from __future__ import annotations

import pytest

from rocbench.server.changes import ServerIdentity, differences, identity_from

MODELS = [{"id": "other"}, {"id": "m", "root": "/models/a", "max_model_len": 4096}]
FIRST = identity_from("0.14.1", MODELS, "m")


def test_a_server_that_stays():
    """The same facts do not differ, even if other models are loaded."""
    assert ServerIdentity("0.14.1", "m", "/models/a", "4096") == FIRST
    assert differences(FIRST, identity_from("0.14.1", [*MODELS, {"id": "lora"}], "m")) == []


@pytest.mark.parametrize("silent", [(None, None), ({}, {}), ("", "text"), (["0.14.1"], []), (1.5, [1])])
def test_silence_is_no_change(silent):
    """An answer that is missing or has another form leaves its facts unknown."""
    now = identity_from(*silent, "m")
    assert [word for word in differences(FIRST, now) if not word.startswith("version")] == []
    assert differences(ServerIdentity(), FIRST) == []


@pytest.mark.parametrize(
    ("version", "entry", "said"),
    [
        ("0.15.0", MODELS[1], "version was 0.14.1, is 0.15.0"),
        ("0.14.1", {**MODELS[1], "max_model_len": 8192}, "max_model_len was 4096, is 8192"),
        ("0.14.1", {**MODELS[1], "root": "/models/b"}, "root was /models/a, is /models/b"),
        ("0.14.1", {"id": "other"}, "model was m, is not served"),
        ("\x1b[31m9\n", MODELS[1], "version was 0.14.1, is [31m9"),
    ],
)
def test_a_server_that_was_replaced(version, entry, said):
    """Each fact is compared alone; the server's text is put on one line."""
    assert differences(FIRST, identity_from(version, [entry], "m")) == [said]

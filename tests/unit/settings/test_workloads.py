"""What a workload's file may say: nothing that has no effect, and no number that is none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rocbench.settings.schema import Length, Load, Sweep, Workload


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mean": 5, "low": 1}, "`low` has no effect on a fixed length"),
        ({"mean": 5, "sigma": 1}, "`sigma` has no effect on a fixed length"),
        ({"kind": "uniform", "mean": 5, "low": 1, "high": 9, "sigma": 1}, "`sigma` has no effect"),
        ({"kind": "uniform", "mean": 5, "low": 1, "high": 5}, "must be .low . high. / 2: 3"),
        ({"kind": "uniform", "mean": 5, "low": 9, "high": 1}, "needs `low` <= `high`"),
        ({"kind": "lognormal", "mean": 5}, "needs `sigma`"),
        ({"kind": "lognormal", "mean": 5, "sigma": -1}, "greater than 0"),
        ({"kind": "lognormal", "mean": 5, "sigma": 1, "low": 6}, "must be between"),
        ({"kind": "lognormal", "mean": 5, "sigma": 1, "high": 4}, "must be between"),
        ({"mean": True}, "`mean` must be a number, not true or false"),
        ({"mean": 0}, "greater than 0"),
        ({"mean": 2.5}, "integer"),
    ],
)
def test_a_length_that_would_be_another_is_refused(given, told):
    """Each key has its effect, and the mean is the mean."""
    with pytest.raises(ValidationError, match=told):
        Length.model_validate(given)


def test_lengths_that_say_what_they_are():
    """Numbers as YAML and tables write them."""
    for given in (
        {"mean": 24},
        {"mean": 24.0},
        {"mean": "24"},
        {"kind": "uniform", "mean": 4, "low": 1, "high": 8},
    ):
        assert Length.model_validate(given).mean in (24, 4)
    Length.model_validate({"kind": "lognormal", "mean": 500, "sigma": 0.5, "low": 400})


def test_images_need_an_api_that_takes_them():
    """They would be left out in silence."""
    images = {"count": 1, "width": 8, "height": 8}
    plain = {"name": "w", "isl": {"mean": 1}, "osl": {"mean": 1}, "images": images}
    assert Workload.model_validate(plain).images is not None
    with pytest.raises(ValidationError, match="`images` need the chat API"):
        Workload.model_validate(plain | {"api": "completions"})


def test_true_is_no_number():
    """Of seconds, of users, nor of anything else that is no switch."""
    for given in ({"duration_s": True}, {"max_requests": False}):
        with pytest.raises(ValidationError, match="must be a number"):
            Load.model_validate(given)
    assert Load.model_validate({"wave": True}).wave


@pytest.mark.parametrize(
    ("levels", "shape"),
    [
        ({"concurrency": [1]}, {"kind": "trace", "path": "t.jsonl"}),
        ({"rate": [1]}, {"kind": "trace", "path": "t.jsonl"}),
        ({"rate": [1], "concurrency": [1]}, {"kind": "closed"}),
        ({"rate": [1], "concurrency": [1]}, {"kind": "open"}),
    ],
)
def test_a_level_that_no_cell_takes_is_refused(levels, shape):
    """It would be left out in silence."""
    given = {"name": "s", "models": ["m"], "workloads": ["w"], "load": {"shape": shape}}
    with pytest.raises(ValidationError, match="remove `"):
        Sweep.model_validate(given | levels)

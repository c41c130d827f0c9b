"""Keys of a sweep."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rocbench.settings.schema import Sweep


@pytest.mark.parametrize("name", ["retries", "again"])
def test_the_old_name_of_retries_is_read(name):
    """`again` was the key before; both at once are refused, and a switch is no number under either."""
    sweep = {"name": "x", "models": ["m"], "workloads": ["w"], "concurrency": [1]}
    assert Sweep.model_validate(sweep | {name: 3}).retries == 3
    with pytest.raises(ValidationError, match=f"`{name}` must be a number"):
        Sweep.model_validate(sweep | {name: True})
    with pytest.raises(ValidationError):
        Sweep.model_validate(sweep | {"again": 1, "retries": 1})

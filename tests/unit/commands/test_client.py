"""What the load cannot use is refused before anything is started or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocbench.commands.sweeping import sweep
from rocbench.errors import InputError
from rocbench.load import cpus


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"client_cpus": str(max(cpus.usable()) + 1)}, "may not run on CPU"),
        ({"client_cpus": "3-0"}, "cannot read"),
        ({"client_cpus": "a"}, "cannot read"),
        ({"tokenizer": "/nope"}, "cannot read the tokenizer"),
    ],
)
def test_the_client_is_checked_first(option: dict[str, str], words: str, tmp_path: Path) -> None:
    """No run folder, no request."""
    out = tmp_path / "run"
    with pytest.raises(InputError, match=words):
        sweep(base_url="http://127.0.0.1:9", model="m", concurrency="1", out=out, **option)  # type: ignore[arg-type]
    assert not out.exists()

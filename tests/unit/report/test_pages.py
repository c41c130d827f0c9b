"""The pages of docs/ that are made from the code are those that the code makes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from pydantic import BaseModel

from rocbench.settings import reference, schema

ROOT = Path(__file__).parents[3]
PAGES = runpy.run_path(str(ROOT / "scripts" / "generate-docs"), run_name="pages")["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_current(name):
    """scripts/generate-docs would change nothing."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"scripts/generate-docs makes docs/{name}"
    )


def test_every_key_of_a_sweep_is_in_the_reference():
    """No key that the schema takes is missing from the page, wherever it is nested."""
    text = reference.sweeps()
    for model in reference._reachable(schema.Sweep):
        assert issubclass(model, BaseModel)
        assert f"## {model.__name__}\n" in text
        for field in model.model_fields:
            assert f"| `{field}` |" in text


def test_types_are_told_in_words():
    """Choices, limits, lists and links, not Python."""
    text = reference.sweeps()
    assert "| `restart` | `never`, `per_repeat`, `per_cell` | `never` |" in text
    assert "list of text or [SweepModel](#sweepmodel)" in text
    assert "typing." not in text
    assert "<class" not in text

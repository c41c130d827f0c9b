"""All reason codes, in the order in which a row lists them. docs/verdicts.md is generated from them. Pure."""

from __future__ import annotations

from rocbench.verdict import loadcodes, servercodes
from rocbench.verdict.code import Code

SPOILED = frozenset(
    {"client_saturated", "clock_stepped", "server_starved", "simulator_late", "stamps_coalesced"}
)
"""Disturbances by the measuring machine: another attempt may avoid them."""
SERVER_FAULTS = frozenset(
    {
        "error_rate",
        "health_failed",
        "requests_resent",
        "server_changed",
        "server_failed",
        "server_unresponsive",
    }
)
"""Faults of the server: another attempt may succeed only by chance."""

CODES: tuple[Code, ...] = (*loadcodes.CODES, *servercodes.CODES)

VOIDING = frozenset(code.id for code in CODES if code.effect == "voids")
INFORMING = frozenset(code.id for code in CODES if code.effect == "informs")
"""Codes that do not change `valid`."""


def meaning(code: str) -> str:
    """The meaning of a code; the code itself if it is unknown (a run of another version)."""
    return next((c.meaning for c in CODES if c.id == code), code)


def codes_page() -> str:
    """docs/verdicts.md as text."""
    rows = [
        " | ".join(("", f"`{c.id}`", c.effect, "yes" if c.needed else "", *map(_cell, texts), "")).strip()
        for c in CODES
        for texts in [(c.meaning, c.condition, c.action)]
    ]
    table = [
        "| Code | Effect | Needed for true | Meaning | Condition | What to do |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([_INTRODUCTION, *table, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_INTRODUCTION = """# Verdicts

Every row of `cells` has a verdict, `valid`, and its `reasons`:

* **false**: a code with the effect *voids* applies. The figures are wrong, or do not mean what their columns say.
* **unknown** (absent): no code voids the row, but a code with the effect *unknown* applies, or a check that is required for `true` could not be made. A server without `/metrics`, for example, cannot prove that no prompt was cached.
* **true**: all other rows.

`reasons` lists the codes that apply: first those that void the row, then those that make it unknown, then those that
inform. Codes that *inform* do not change `valid`: the figures are right, and the code adds a fact about them.
`unknown_checks` lists all checks that could not be made, including those that are not required for `true`. It omits checks that
do not apply to a row (late sends under closed loop, late steps of a real server).

A row with `server_failed` also has the code of the cause if the server's log shows it, such as `aiter_mla_heads`,
`kv_cache_too_small`, `gpu_fault` or `engine_core_init`: see [known causes of a failed server start](failed-starts.md).

A simulated row can be valid: the column `simulated` says that no GPU was measured.
"""

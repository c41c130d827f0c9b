"""All reason codes of a verdict, in the order in which a row lists them: docs/verdicts.md is made of them. Pure."""

from __future__ import annotations

from rocbench.verdict import loadcodes, servercodes
from rocbench.verdict.code import Code

SPOILED = frozenset(
    {"client_saturated", "clock_stepped", "server_starved", "simulator_late", "stamps_coalesced"}
)
"""What the measuring machine did to a row: another attempt may be free of it."""
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
"""What the server did: another attempt may only be luckier."""

CODES: tuple[Code, ...] = (*loadcodes.CODES, *servercodes.CODES)

VOIDING = frozenset(code.id for code in CODES if code.effect == "voids")
INFORMING = frozenset(code.id for code in CODES if code.effect == "informs")
"""Codes that say something of a row, and nothing against it."""


def meaning(code: str) -> str:
    """What a code means, for tables and reports; the code itself when it is not known (an older or newer run)."""
    return next((c.meaning for c in CODES if c.id == code), code)


def codes_page() -> str:
    """docs/verdicts.md as text."""
    rows = [
        " | ".join(("", f"`{c.id}`", c.effect, "yes" if c.needed else "", *map(_cell, texts), "")).strip()
        for c in CODES
        for texts in [(c.meaning, c.threshold, c.action)]
    ]
    table = [
        "| Code | Effect | Needed for true | Meaning | Given when | What to do |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([_INTRODUCTION, *table, *rows, ""])


def _cell(text: str) -> str:
    """A bar would end the cell."""
    return text.replace("|", "\\|")


_INTRODUCTION = """# Verdicts

Made by `scripts/generate-docs` from the tables `loadcodes` and `servercodes` in `src/rocbench/verdict/`; thresholds are in
`loadchecks` and `serverchecks`.

Every row of `cells` carries its doubt:

* `valid` is **false** when a code that *voids* fired: the figure is not what its columns say.
* `valid` is **unknown** (absent) when none did, but a check that `true` needs could not be made, or a code with the
  effect *unknown* fired. A server without `/metrics`, for example, cannot prove that no prompt was cached.
* `valid` is **true** otherwise.

`reasons` lists the codes that fired, those that void first. Codes that *inform* do not change `valid`: the figure is
true, but you should know this about it. `unknown_checks` lists every check that could not be made, needed or not.
Beside `server_failed` stands the code of the cause where its log tells one: `aiter_mla_heads`, `kv_cache_too_small`,
`gpu_fault`, `engine_core_init` and the others of [faults.md](faults.md).
A check without meaning for a row (late sends under closed loop, the simulator's lateness on a real server) is not
counted. That a row is simulated is no doubt about it but what it is: the column `simulated` says so.
"""

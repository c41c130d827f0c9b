"""Hold a row's figures against what the hardware can do. Pure; the formulas are in `physics/roofline.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rocbench.model.architecture import from_config
from rocbench.physics import layout, roofline
from rocbench.physics.roofline import RequestShape, Share
from rocbench.settings.schema import Hardware, ModelProfile

Row = Mapping[str, Any]


def share(profile: ModelProfile, hardware: Hardware, args: Mapping[str, Any], row: Row) -> Share | None:
    """The largest share of a physical limit that a row's figures take; above 1 the row cannot be.

    Tokens that the server found in its prefix cache, where it says so, are not counted as computed.

    Args:
        args: the server's flags, names without dashes.
        row: columns of `cells`.
    """
    if hardware.gpu is None:
        return None
    output = _output(row)
    return roofline.roofline_share(
        from_config(profile.config),
        profile.checkpoint,
        hardware,
        layout.from_args(args),
        output_throughput=output,
        total_throughput=_total(row, output),
        concurrency=_whole(number(row, "concurrency")),
        shape=_shape(row),
        accepted_per_step=_per_step(row),
        tpot_s=_tpot_s(row),
    )


def most_output(profile: ModelProfile, hardware: Hardware, args: Mapping[str, Any], row: Row) -> float | None:
    """The most output tokens/s that a row's server can give its users; None where no physics is claimed."""
    most = roofline.output_limit(
        from_config(profile.config),
        profile.checkpoint,
        hardware,
        layout.from_args(args),
        _whole(number(row, "concurrency")),
        _shape(row),
        accepted_per_step=_per_step(row),
    )
    return None if most is None else most[0]


def _output(row: Row) -> float | None:
    """Output tokens/s; of a row that has only requests/s and the output length, their product."""
    told, requests = number(row, "output_throughput"), number(row, "request_throughput")
    osl = number(row, "osl_had") or number(row, "osl")
    return requests * osl if told is None and requests is not None and osl else told


def _tpot_s(row: Row) -> float | None:
    """The TPOT of most requests. Rows of our own stand by their output rate, which the same stamps give."""
    if not row.get("imported"):
        return None
    found = (number(row, f"{statistic}_tpot_ms") for statistic in ("median", "mean", "p90", "p95", "p99"))
    return next((tpot / 1e3 for tpot in found if tpot is not None), None)


def _shape(row: Row) -> RequestShape | None:
    isl = number(row, "isl_had") or number(row, "isl")
    osl = number(row, "osl_had") or number(row, "osl")
    if isl is None or osl is None:
        return None
    pictures, requests = number(row, "image_token_throughput"), number(row, "request_throughput")
    if pictures and requests:
        isl += pictures / requests  # their prefill must be computed; that the tower saw each is not known
    hits, prompts = number(row, "prefix_cache_hits"), number(row, "server_prompt_tokens")
    cached = isl * min(1.0, hits / prompts) if hits and prompts else 0.0
    return RequestShape(isl, osl, cached, accepted_per_step=_per_step(row))


def _per_step(row: Row) -> float:
    """Tokens a decode step gives one sequence: as told, else with speculation by how often a chunk carried several."""
    told = number(row, "spec_tokens_per_step")
    if told is not None:
        return max(1.0, told)
    tokens, chunks = number(row, "itl_n"), number(row, "icl_n")
    return tokens / chunks if tokens and chunks and number(row, "spec_acceptance") else 1.0


def _total(row: Row, output: float | None) -> float | None:
    """Output and text prompt tokens/s; a row that has only the sum (other tools) is taken at its word."""
    inputs = number(row, "input_throughput")
    if output is not None and inputs is not None:
        return output + inputs
    return number(row, "total_token_throughput")


def number(row: Row, name: str) -> float | None:
    """A column as a number; None where it is absent."""
    value = row.get(name)
    if value is None or isinstance(value, str | bool):
        return None
    found = float(value)
    return None if math.isnan(found) else found


def _whole(value: float | None) -> int | None:
    return None if value is None else max(1, round(value))

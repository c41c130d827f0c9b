"""A row's figures against the hardware's limits. Pure; the formulas are in `physics/roofline.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocbench.model.architecture import from_config
from rocbench.physics import layout, roofline
from rocbench.physics.roofline import RequestShape, Share
from rocbench.settings.schema import Hardware, ModelProfile
from rocbench.tables.row import number


def share(
    profile: ModelProfile, hardware: Hardware, args: Mapping[str, Any], row: Mapping[str, Any]
) -> Share | None:
    """The largest share of a physical limit that a row's figures reach; above 1 the row is impossible.

    Tokens that the server reports as found in its prefix cache do not count as computed.

    Args:
        args: the server's flags, names without dashes.
        row: columns of `cells`; all but the figures to check may be absent.
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
        concurrency=_whole(number(row.get("concurrency"))),
        shape=_shape(row),
        accepted_per_step=_per_step(row),
        tpot_s=_tpot_s(row),
    )


def most_output(
    profile: ModelProfile, hardware: Hardware, args: Mapping[str, Any], row: Mapping[str, Any]
) -> float | None:
    """The maximum output tokens/s of a row's server; None if there is no physical model."""
    limit = roofline.output_limit(
        from_config(profile.config),
        profile.checkpoint,
        hardware,
        layout.from_args(args),
        _whole(number(row.get("concurrency"))),
        _shape(row),
        accepted_per_step=_per_step(row),
    )
    return None if limit is None else limit[0]


def _output(row: Mapping[str, Any]) -> float | None:
    """Output tokens/s; if a row has only requests/s and the output length, their product."""
    output, requests = number(row.get("output_throughput")), number(row.get("request_throughput"))
    osl = number(row.get("osl_had")) or number(row.get("osl"))
    return requests * osl if output is None and requests is not None and osl else output


def _tpot_s(row: Mapping[str, Any]) -> float | None:
    """The typical TPOT of an imported row; None for other rows, whose output rate has the same timestamps."""
    if not row.get("imported"):
        return None
    figures = (
        number(row.get(f"{statistic}_tpot_ms")) for statistic in ("median", "mean", "p90", "p95", "p99")
    )
    return next((tpot / 1e3 for tpot in figures if tpot is not None), None)


def _shape(row: Mapping[str, Any]) -> RequestShape | None:
    isl = number(row.get("isl_had")) or number(row.get("isl"))
    osl = number(row.get("osl_had")) or number(row.get("osl"))
    if isl is None or osl is None:
        return None
    image_tokens, requests = number(row.get("image_token_throughput")), number(row.get("request_throughput"))
    if image_tokens and requests:
        isl += image_tokens / requests  # their prefill is computed; the vision tower may have skipped some
    hits, prompts = number(row.get("prefix_cache_hits")), number(row.get("server_prompt_tokens"))
    cached = isl * min(1.0, hits / prompts) if hits and prompts else 0.0
    return RequestShape(isl, osl, cached, accepted_per_step=_per_step(row))


def _per_step(row: Mapping[str, Any]) -> float:
    """Tokens per decode step and sequence: as reported, else with speculation the mean tokens per chunk."""
    reported = number(row.get("spec_tokens_per_step"))
    if reported is not None:
        return max(1.0, reported)
    tokens, chunks = number(row.get("itl_n")), number(row.get("icl_n"))
    return tokens / chunks if tokens and chunks and number(row.get("spec_acceptance")) else 1.0


def _total(row: Mapping[str, Any], output: float | None) -> float | None:
    """Output + text prompt tokens/s; if a row has only the total (of other tools), that."""
    inputs = number(row.get("input_throughput"))
    if output is not None and inputs is not None:
        return output + inputs
    return number(row.get("total_token_throughput"))


def _whole(value: float | None) -> int | None:
    return None if value is None else max(1, round(value))

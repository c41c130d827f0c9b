"""Goodput: completed requests per second that met every limit of the SLO. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rocbench.column import Values
from rocbench.records import NONE, RequestArray
from rocbench.stats import ratio


def columns(
    rows: RequestArray, failed: int, request_throughput: object, slo: Mapping[str, float] | None
) -> Values:
    """Requests/s that met every limit: request_throughput x their share of the completed requests (`rows`).

    A request of one token has no TPOT and meets its limit, as in `vllm bench serve --goodput`.
    """
    if not slo or not len(rows) or not isinstance(request_throughput, float):
        return {"goodput": None, "goodput_share": None}
    good = (rows["first_token_ns"] != NONE) & (rows["last_token_ns"] != NONE)
    later = {"ttft_ms": "first_token_ns", "e2el_ms": "last_token_ns"}
    for name, limit in slo.items():
        if name == "tpot_ms":
            spans = (rows["last_token_ns"] - rows["first_token_ns"]) / 1e6
            good &= spans <= limit * np.maximum(rows["output_tokens"] - 1, 0) + 1e-6
        else:
            good &= (rows[later[name]] - rows["sent_ns"]) / 1e6 <= limit
    return {
        "goodput": request_throughput * (float(good.sum()) / len(rows)),
        "goodput_share": ratio(good.sum(), len(rows) + failed),
    }

"""Request rows and loads made by hand, for the tests of the tables."""

from __future__ import annotations

import numpy as np

from rocbench.records import NONE, REQUEST_DTYPE, Histogram, LoadResult, Phase, Window

S = 1_000_000_000
MS = 1_000_000


def request(**fields):
    """One request row; what is not given is absent."""
    row = np.full((), NONE, dtype=REQUEST_DTYPE)
    row["request_id"], row["worker"], row["phase"], row["user"], row["turn"] = 0, 0, Phase.MEASURED, 0, 0
    row["images"], row["chunks"], row["zero_gaps"], row["coalesced"] = 0, 0, 0, 0
    for name, value in fields.items():
        row[name] = value
    if row["intended_ns"] == NONE:
        row["intended_ns"] = row["sent_ns"]
    return row


def answered(start_s: float, ttft_ms: float, tpot_ms: float, tokens: int, **fields):
    """A completed request of one token a chunk whose last byte comes 1 ms after its last token."""
    sent = int(start_s * S)
    first = sent + int(ttft_ms * MS)
    last = first + int(tpot_ms * MS) * (tokens - 1)
    return request(
        sent_ns=sent,
        first_chunk_ns=first - MS,
        first_token_ns=first,
        last_token_ns=last,
        end_ns=last + MS,
        isl_asked=64,
        osl_asked=tokens,
        prompt_tokens=64,
        output_tokens=tokens,
        chunks=tokens,
        http_status=200,
        **fields,
    )


def load(rows, *, start_s=0.0, end_s=10.0, ended_by="duration", **fields):
    """A LoadResult around rows."""
    given = {
        "requests": np.array(rows, dtype=REQUEST_DTYPE),
        "errors": {},
        "window": Window(int(start_s * S), int(end_s * S), ended_by),
        "itl": Histogram(),
        "icl": Histogram(),
        "output_tokens_in_window": 0,
        "input_tokens_in_window": 0,
        "image_tokens_in_window": 0,
        "tokens_per_second": np.zeros(0, np.int64),
        "concurrency_asked": 2,
        "transport": "wire",
        "workers": (),
        "clock_step_ns": 0,
        "open_file_limit": 1024,
    }
    return LoadResult(**(given | fields))

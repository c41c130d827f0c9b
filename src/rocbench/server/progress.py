"""Loading steps of a starting vLLM, read from its log lines. Pure."""

from __future__ import annotations

import re

_STEPS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"Initializing a V1 LLM engine \(v(?P<a>[^)]+)\)", "starting engine of vLLM {a}"),
        (r"Starting to load model", "loading weights"),
        (
            r"Loading \S+ checkpoint shards:\s+(?P<share>\d+)%.*?(?P<a>\d+)/(?P<b>\d+)",
            "loading weights {a}/{b}",
        ),
        (r"Loading weights took (?P<a>[\d.]+) s", "weights loaded in {a} s"),
        (r"Model loading took (?P<a>[\d.]+) GiB", "weights loaded: {a} GiB per rank"),
        (r"\[aiter\] start build \[?(?P<a>[\w.-]+)", "AITER builds {a}"),
        (r"Dynamo bytecode transform time|Compiling a graph", "compiling the graph"),
        (r"torch\.compile (?:takes|took) (?P<a>[\d.]+) s", "compiled in {a} s"),
        (r"Capturing CUDA graphs?[^:]*:\s+(?P<share>\d+)%", "capturing graphs"),
        (r"Graph capturing finished in (?P<a>[\d.]+) sec", "graphs captured in {a} s"),
        (r"KV cache size: (?P<a>[\d,]+) tokens", "KV cache of {a} tokens"),
        (r"init engine \(.*\) took (?P<a>[\d.]+) s", "engine ready in {a} s"),
        (r"Application startup complete", "HTTP server up"),
    )
)


def step_of(line: str) -> tuple[str, float | None] | None:
    """(`loading weights 5/11`, 0.45) for a log line that reports progress; None for any other.

    The lines are those of vLLM 0.14.1 and 0.33.0 (model_loader, gpu_model_runner, kv_cache_utils, core) and of tqdm.
    """
    for pattern, text in _STEPS:
        match = pattern.search(line)
        if match:
            groups = match.groupdict()
            share = groups.pop("share", None)
            return text.format(**groups), int(share) / 100 if share is not None else None
    return None

"""Counts and amounts that settings hold, each with an upper bound: far above any use, far below what hangs or overflows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Users = Annotated[int, Field(gt=0, le=1_000_000)]
"""Each is a connection, of which one address of a client has 28,000: so many need forty load hosts."""
Rate = Annotated[float, Field(gt=0, le=1e6)]
"""Requests/s: as many as users, each of which ends in a second."""
Requests = Annotated[int, Field(gt=0, le=10_000_000)]
"""Of one cell: their records take gigabytes."""
Tokens = Annotated[int, Field(gt=0, le=100_000_000)]
"""Of one request or context: ten times the longest that a model takes (10 million)."""
Vocabulary = Annotated[int, Field(gt=0, le=10_000_000)]
"""Token ids: the largest vocabularies have 262,144."""
Gpus = Annotated[int, Field(gt=0, le=1024)]
"""Of one server, in each dimension: the largest machines with one fabric have 576."""
Repeats = Annotated[int, Field(gt=0, le=1000)]
"""The interval of a mean narrows with the root of their number: 1,000 make it thirty times narrower than one's scatter."""
Measurements = Annotated[int, Field(gt=0, le=10_000)]
"""Of one search or run: at half a minute each they take three days."""
Images = Annotated[int, Field(gt=0, le=1000)]
"""In one request: vLLM's default limit is 1 to 999."""
Pixels = Annotated[int, Field(gt=0, le=16_384)]
"""Of a side: more than any encoder takes before it scales down; a picture is made in memory."""
Prompts = Annotated[int, Field(gt=0, le=1_000_000)]
"""That are kept in memory and sent in turn."""
Seconds = Annotated[float, Field(gt=0, le=2_592_000)]
"""A month: no queue lets a job run longer."""
Wait = Annotated[float, Field(ge=0, le=2_592_000)]
"""A month, or nothing."""
Factor = Annotated[float, Field(gt=0, le=1e6)]
"""How many times as fast or as slow: a million times turns hours into milliseconds."""
Variation = Annotated[float, Field(ge=0, le=10)]
"""A coefficient of variation: ten times the mean is noise without a mean."""
Quantity = Annotated[float, Field(gt=0, le=1e21)]
"""Bytes, bytes/s, FLOP/s, parameters: ten thousand times what a node of today has."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What generators of random numbers take."""

MOST_SERVERS = 2_000
"""Of a sweep: starts of two minutes take three days."""
MOST_RUNS = 100_000
"""Cells of a sweep times their repeats: half a minute each take a month."""
MOST_PIXELS = 1 << 28
"""Of one request's images: they take 0.8 GB while they are made."""

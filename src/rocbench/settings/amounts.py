"""Types of counts and amounts, each with an upper bound: far above any use, far below values that hang or overflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Users = Annotated[int, Field(gt=0, le=1_000_000)]
"""Each user is a connection, and one client address has 28,000: the maximum needs forty load hosts."""
Rate = Annotated[float, Field(gt=0, le=1e6)]
"""Requests/s. Maximum: as for users with requests of one second."""
Requests = Annotated[int, Field(gt=0, le=10_000_000)]
"""Requests of one cell. The records of the maximum take gigabytes."""
Tokens = Annotated[int, Field(gt=0, le=100_000_000)]
"""Tokens of one request or context. Maximum: ten times the longest context of a model (10 million)."""
Vocabulary = Annotated[int, Field(gt=0, le=10_000_000)]
"""Number of token ids. The largest vocabularies have 262,144."""
Gpus = Annotated[int, Field(gt=0, le=1024)]
"""GPUs of one server, in each dimension. The largest machines with one fabric have 576."""
Repeats = Annotated[int, Field(gt=0, le=1000)]
"""Repeats. The interval of a mean narrows with their square root: 1,000 make it thirty times narrower."""
Measurements = Annotated[int, Field(gt=0, le=10_000)]
"""Measurements of one search or run. At half a minute each, the maximum takes three days."""
Images = Annotated[int, Field(gt=0, le=1000)]
"""Images of one request. vLLM's default limit is 1 to 999."""
Pixels = Annotated[int, Field(gt=0, le=16_384)]
"""Width or height in pixels. No encoder accepts so many without scaling down; an image is created in memory."""
Prompts = Annotated[int, Field(gt=0, le=1_000_000)]
"""Prompts that are kept in memory and sent in turn."""
Seconds = Annotated[float, Field(gt=0, le=2_592_000)]
"""Seconds. Maximum: a month, because no queue lets a job run longer."""
Wait = Annotated[float, Field(ge=0, le=2_592_000)]
"""Seconds from 0 to a month."""
Factor = Annotated[float, Field(gt=0, le=1e6)]
"""Factor of speed. The maximum turns hours into milliseconds."""
Variation = Annotated[float, Field(ge=0, le=10)]
"""Coefficient of variation. At the maximum, the noise is ten times the mean."""
Quantity = Annotated[float, Field(gt=0, le=1e21)]
"""Bytes, bytes/s, FLOP/s or parameters. Maximum: ten thousand times those of a current node."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Seed of a random number generator."""

MOST_SERVERS = 2_000
"""Servers of a sweep. At two minutes per start, the maximum takes three days."""
MOST_RUNS = 100_000
"""Cells of a sweep times their repeats. At half a minute each, the maximum takes a month."""
MOST_PIXELS = 1 << 28
"""Pixels of all images of one request. The maximum takes 0.8 GB while they are created."""

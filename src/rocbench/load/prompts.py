"""Prompts: drawn lengths, and token ids and words that no two requests share.

Pure: everything follows from a `Key` (run, cell, repeat, seed) and the request's number.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rocbench.load.spec import Lengths, RequestPlan

IdArray = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]

UNIQUE_TOKENS = 16
"""Tokens at a prompt's start (after a shared prefix) that make it unique: the smallest usual cache block."""

LONGEST_TAIL = 64
"""Maximum length of an unbounded lognormal distribution, in means."""
_FILLER_PLACES = 1 << 16

BLIND_IDS = (1000, 4000)
"""Ids for an unknown vocabulary: ordinary ids in every tokenizer of the profiles."""


@dataclass(frozen=True)
class Key:
    """The identity that makes the prompts of one cell and repeat different from all others."""

    run_id: str
    cell_id: str
    repeat: int
    seed: int

    def digest(self, purpose: str, number: int, size: int = 64) -> bytes:
        """`size` (at most 64) bytes that depend on all parts of the key."""
        text = f"{self.run_id}\0{self.cell_id}\0{self.repeat}\0{self.seed}\0{purpose}\0{number}"
        return hashlib.blake2b(text.encode(), digest_size=size).digest()

    @cached_property
    def offset(self) -> int:
        """Index at which the cell's first indices start to run through the vocabulary."""
        return int.from_bytes(self.digest("offset", 0, 8), "little")

    def generator(self, purpose: str, number: int) -> np.random.Generator:
        """A separate random generator for each purpose and number."""
        return np.random.Generator(
            np.random.PCG64(int.from_bytes(self.digest(purpose, number, 16), "little"))
        )


def allowed_ids(vocab_size: int | None, special: frozenset[int]) -> IdArray:
    """Ids allowed in a prompt. Without a tokenizer the ends of the vocabulary are excluded.

    Special ids are the lowest few or the highest 1 % of a vocabulary (Llama 3 from 128,000 of 128,256, Qwen3
    from 151,643 of 151,936, DeepSeek-V3 from 128,000 of 129,280), so the lowest tenth, at most 1,000, and the
    highest 5 % are avoided.
    """
    if vocab_size is None:
        low, high = BLIND_IDS
    else:
        low, high = min(1000, vocab_size // 10), vocab_size - vocab_size // 20
    ids = np.arange(low, high, dtype=np.int32)
    if special:
        ids = ids[~np.isin(ids, np.fromiter(special, dtype=np.int32))]
    return ids


def length(plan: Lengths, key: Key, purpose: str, number: int) -> int:
    """The length of request `number`, at least 1."""
    if plan.kind == "fixed":
        return plan.mean
    source = key.generator(purpose, number)
    low, high = plan.low or 1, plan.high
    if plan.kind == "uniform":
        return int(source.integers(low, high if high is not None else plan.mean * 2 - low, endpoint=True))
    sigma = plan.sigma or 0.5
    drawn = round(source.lognormal(math.log(plan.mean) - sigma**2 / 2, sigma))
    return max(low, min(drawn, high if high is not None else plan.mean * LONGEST_TAIL))


def expected_osl(plan: RequestPlan) -> float | None:
    """Mean output tokens of all possible requests; None if a file or the model decides."""
    return expected(plan.osl) if plan.dataset is None and plan.ignore_eos else None


def expected(plan: Lengths) -> float:
    """Mean of the values that `length` draws."""
    low, high = plan.low or 1, plan.high
    if plan.kind == "fixed":
        return float(plan.mean)
    if plan.kind == "uniform":
        return (low + (high if high is not None else plan.mean * 2 - low)) / 2
    sigma = plan.sigma or 0.5
    most = high if high is not None else plan.mean * LONGEST_TAIL

    def below(value: float, order: int) -> float:
        """E[x^order; x <= value] over mean^order, of the lognormal."""
        z = (math.log(value / plan.mean) + sigma**2 / 2) / sigma - order * sigma
        return (1 + math.erf(z / math.sqrt(2))) / 2

    inside = plan.mean * (below(most, 1) - below(low, 1))
    return inside + low * below(low, 0) + most * (1 - below(most, 0))


def shared_length(ratio: float, isl: int) -> int:
    """Number of shared tokens of a prompt; at least one token stays unshared."""
    return min(round(ratio * isl), isl - 1) if ratio > 0 else 0


def common_indices(vocabulary: int, size: int, key: Key) -> IndexArray:
    """The cell's common text; each prompt shares its first part. It is the same for every length."""
    return key.generator("shared", 0).integers(0, vocabulary, size)


def filler(vocabulary: int, longest: int, key: Key) -> IndexArray:
    """Random indices for the rest of prompts of at most `longest` tokens, each from a different place."""
    return key.generator("filler", 0).integers(0, vocabulary, _FILLER_PLACES + longest)


def indices(vocabulary: int, size: int, key: Key, number: int, rest: IndexArray) -> IndexArray:
    """`size` indices below `vocabulary` that only request `number` has.

    The first runs through the vocabulary one by one, so that in a cell not even a block of one token is
    shared until it wraps around; the next 15 are a hash of the whole key, so that no two requests
    of any cell share a block of 16. The rest comes from the cell's `filler`: a cache finds a block only
    after all blocks before it, so the rest need not be unique, and new draws would cost the client 25 us.
    """
    digest = key.digest("block", number)
    hashed = np.frombuffer(digest, dtype=np.uint32) % vocabulary
    chosen = np.empty(max(size, UNIQUE_TOKENS), dtype=np.int64)
    chosen[0] = (key.offset + number) % vocabulary
    chosen[1:UNIQUE_TOKENS] = hashed[: UNIQUE_TOKENS - 1]
    if size > UNIQUE_TOKENS:
        place = int.from_bytes(digest[-4:], "little") % _FILLER_PLACES
        chosen[UNIQUE_TOKENS:] = rest[place : place + size - UNIQUE_TOKENS]
    return chosen[:size]


WORDS = tuple(
    """about above after again air all along also always and animal another answer any are around ask away back
    been before began below best better between big black blue boat body book both box boy bring build but call
    came can car care carry change city close cold come could country course cut dark day did different does dog
    done door down draw drive dry during each early earth east eat end enough even ever every example eye face
    fact family far farm fast father feel feet few field figure fill final find fine fire first fish five food
    foot force form found four free friend from front full game gave get girl give gold good got great green
    ground group grow had half hand hard has have head hear heat help her here high hill him his hold home horse
    hot hour house how idea inch into island just keep kind king know land language large last late learn leave
    left letter life light like line list little live long look low machine made make man many map mark may mean
    might mile mind money moon more morning most mother mountain move much music must name near need never new
    next night north note nothing notice now number object ocean off often old once one only open order other
    our out over own page paper part pass pattern people perhaps person picture piece place plain plan plane
    plant play point power press problem product public pull put question quick ran reach read ready real red
    remember rest right river road rock room round rule run said same saw say school science sea second see seem
    self sentence set several ship short should show side simple since sing six size sleep small snow some song
    soon sound south space stand star start state stay step still stood stop story street strong study such sun
    sure surface table take talk teach tell ten than that the them then there these they thing think this those
    though thought thousand three through time to together too took top toward town travel tree true try turn two
    under until upon use usual very voice vowel walk want war warm was watch water way weight well went were west
    what wheel when where which while white who whole why will wind with without wood word work world would write
    year yes yet you young your""".split()
)
"""Common English words: with a leading space, each is one token in the usual vocabularies."""


def text(words: tuple[str, ...], chosen: IndexArray) -> str:
    """Words by their indices, each with a leading space."""
    return "".join([" " + words[index] for index in chosen.tolist()])


def block_seed(key: Key) -> int:
    """A number below 2**63 from the whole key, for schedules and shuffles."""
    return int.from_bytes(key.digest("seed", 0, 8), "little") >> 1

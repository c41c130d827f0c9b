"""The scheduler, step by step."""

from __future__ import annotations

import pytest

from rocbench.sim.costs import AffineTimes, Noise
from rocbench.sim.engine import Engine
from rocbench.sim.steps import EngineConfig, Sequence

STEP = AffineTimes(step=1.0, prefill_token=0.0, decode_seq=0.0, context_token=0.0)


def engine(**changes):
    """A small engine whose steps last one second."""
    settings = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 16,
        "max_model_len": 256,
        "block_size": 4,
        "num_blocks": 64,
    }
    return Engine(EngineConfig(**(settings | changes)), STEP)


def run(server, now=0.0, until=None, limit=10_000):
    """All outcomes until nothing is left to do."""
    outcomes = []
    while server.busy:
        outcome = server.step(now, until)
        now = outcome.ends_s
        outcomes.append(outcome)
        assert len(outcomes) < limit
    return outcomes


def test_the_prompt_gives_the_first_token_and_each_step_one_more():
    """A prompt that fits one step and five tokens take five steps."""
    server = engine()
    server.add(Sequence(0, 10, 5), 0.0)
    outcomes = run(server)
    assert [len(o.prefilled) for o in outcomes] == [1, 0, 0, 0, 0]
    assert [o.decoding for o in outcomes] == [0, 1, 1, 1, 1]
    assert [s.id for s in outcomes[-1].finished] == [0]
    assert server.counters.generation_tokens == 5
    assert server.counters.prompt_tokens == 10


def test_a_long_prompt_is_computed_in_chunks_within_the_budget():
    """40 tokens under a budget of 16 take three steps, and the rest of the last is given to the next request."""
    server = engine()
    first, second = Sequence(0, 40, 2), Sequence(1, 4, 2)
    server.add(first, 0.0)
    server.add(second, 0.0)
    outcomes = run(server)
    assert [o.prefill_tokens for o in outcomes[:3]] == [16, 16, 12]
    assert outcomes[2].prefilled == [first, second]


def test_decoding_sequences_are_served_before_prompts():
    """Each running sequence takes one token of the budget first."""
    server = engine(max_num_batched_tokens=8)
    for number in range(3):
        server.add(Sequence(number, 2, 9), 0.0)
    server.step(0.0)
    server.add(Sequence(9, 20, 2), 1.0)
    assert server.step(1.0).prefill_tokens == 8 - 3


def test_no_more_run_than_there_are_seats():
    """max_num_seqs bounds what runs; the others wait in order of arrival."""
    server = engine(max_num_seqs=2)
    for number in range(5):
        server.add(Sequence(number, 2, 3), 0.0)
    finished = []
    now = 0.0
    while server.busy:
        outcome = server.step(now)
        now = outcome.ends_s
        assert server.running <= 2
        finished += [s.id for s in outcome.finished]
    assert finished == [0, 1, 2, 3, 4]


def test_the_sequence_admitted_last_is_preempted_and_recomputed():
    """When blocks run short the youngest loses them, waits first in the queue, and computes all again."""
    server = engine(num_blocks=8)
    old, young = Sequence(0, 8, 16), Sequence(1, 8, 16)
    server.add(old, 0.0)
    server.add(young, 0.0)
    outcomes = run(server)
    lost = [s for o in outcomes for s in o.preempted]
    assert lost
    assert set(lost) == {young}
    assert young.preemptions == len(lost) == server.counters.preemptions
    assert [s.id for o in outcomes for s in o.finished] == [0, 1]
    assert server.counters.generation_tokens == 32
    assert server.pool.used == 0


def test_a_request_that_can_never_fit_is_refused():
    """Its blocks would be more than there are."""
    with pytest.raises(ValueError, match="do not fit"):
        engine(num_blocks=4).add(Sequence(0, 16, 10), 0.0)


def test_a_prompt_seen_before_is_taken_from_the_cache():
    """All full blocks but the last token's are found; hits and queries are counted."""
    server = engine()
    hashes = (1, 2, 3, 4)
    for number in range(2):
        server.add(Sequence(number, 16, 2, hashes), 0.0)
        run(server)
    assert server.counters.prefix_queries == 32
    assert server.counters.prefix_hits == 12


def test_prefix_caching_can_be_off():
    """Then nothing is looked up or kept."""
    server = engine(prefix_caching=False)
    for number in range(2):
        server.add(Sequence(number, 16, 2, (1, 2, 3, 4)), 0.0)
        run(server)
    assert server.counters.prefix_queries == server.counters.prefix_hits == 0


def test_an_evicted_prompt_comes_back_from_host_memory():
    """With KV offload, blocks that the GPU has given up are loaded instead of computed."""
    server = engine(num_blocks=8, offload_blocks=64)
    for number, hashes in enumerate([(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (1, 2, 3, 4)]):
        server.add(Sequence(number, 16, 2, hashes), 0.0)
        run(server)
    assert server.counters.prefix_hits == 0
    assert server.counters.external_hits == 12


def test_an_answer_sent_back_is_found():
    """Blocks of the answer are kept as well, so that a second turn finds its own past."""
    server = engine()
    server.add(Sequence(0, 8, 9, (1, 2, 3, 4)), 0.0)
    run(server)
    server.add(Sequence(1, 24, 2, (1, 2, 3, 4, 5, 6)), 0.0)
    run(server)
    assert server.counters.prefix_hits == 16


def test_aborting_frees_everything():
    """A waiting, a computing and a decoding request are each dropped whole."""
    server = engine(max_num_seqs=2)
    decoding, computing, waiting = Sequence(0, 4, 50), Sequence(1, 60, 5), Sequence(2, 4, 5)
    for sequence in (decoding, computing, waiting):
        server.add(sequence, 0.0)
    server.step(0.0)
    assert server.prefilling is computing
    for sequence in (computing, waiting, decoding):
        server.abort(sequence)
        server.abort(sequence)
    assert not server.busy
    assert server.pool.used == 0


def test_a_run_of_steps_equals_the_steps_one_by_one():
    """Steps taken together have the durations, ends and counters of the same steps taken singly."""

    def once(until):
        times = AffineTimes(step=0.01, context_token=1e-6)
        server = Engine(engine(num_blocks=40, max_num_seqs=4).config, times, Noise(0.1, 0.0, 7))
        for number in range(9):
            server.add(Sequence(number, 5 + number, 20 + 3 * number), 0.0)
        outcomes = run(server, until=until)
        finished = [(round(o.ends_s, 9), s.id) for o in outcomes for s in o.finished]
        return finished, server.counters

    assert once(None) == once(1e9)


def test_a_run_of_steps_stops_where_the_caller_wants_to_act():
    """No step begins at or after `until`, so that an arrival is seen by the first step after it."""
    server = engine()
    server.add(Sequence(0, 4, 100), 0.0)
    server.step(0.0)
    outcome = server.step(1.0, until=5.5)
    assert outcome.steps == 5
    assert outcome.ends_s == pytest.approx(6.0)


def test_without_chunks_a_step_must_hold_the_longest_prompt():
    """vLLM refuses such settings, and so does the engine."""
    with pytest.raises(ValueError, match="longest prompt"):
        engine(chunked_prefill=False)


def test_a_prompt_beyond_the_budget_waits_without_chunked_prefill():
    """It is computed in a step of its own, never in part."""
    server = engine(chunked_prefill=False, max_num_batched_tokens=256, num_blocks=128)
    server.add(Sequence(0, 200, 2), 0.0)
    server.add(Sequence(1, 100, 2), 0.0)
    assert [o.prefill_tokens for o in run(server)] == [200, 100, 0]


def test_the_reset_of_the_prefix_cache_needs_an_idle_engine():
    """It fails while a request holds blocks, as vLLM's does."""
    server = engine()
    server.add(Sequence(0, 8, 3, (1, 2)), 0.0)
    server.step(0.0)
    assert not server.reset_prefix_cache()
    run(server, 1.0)
    assert server.reset_prefix_cache()
    server.add(Sequence(1, 8, 3, (1, 2)), 9.0)
    run(server, 9.0)
    assert server.counters.prefix_hits == 0

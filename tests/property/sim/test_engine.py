"""What holds for the scheduler whatever is asked of it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rocbench.sim.costs import AffineTimes, Noise
from rocbench.sim.engine import Engine
from rocbench.sim.steps import EngineConfig, Sequence

configs = st.builds(
    EngineConfig,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 40),
    max_model_len=st.just(64),
    block_size=st.sampled_from([1, 2, 4, 16]),
    num_blocks=st.integers(64, 96),
    prefix_caching=st.booleans(),
    offload_blocks=st.sampled_from([0, 50]),
)
requests = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 24), st.integers(0, 3), st.floats(0.0, 3.0)),
    min_size=1,
    max_size=14,
)
"""(prompt, answer, which of four texts it begins with, arrival in s)"""
TIMES = AffineTimes(step=0.05, prefill_token=0.001, decode_seq=0.002, context_token=0.0001)


def small(config):
    """The same engine with so few blocks that sequences are preempted, yet each fits alone."""
    least = -(-64 // config.block_size)
    return EngineConfig(
        config.max_num_seqs,
        config.max_num_batched_tokens,
        config.max_model_len,
        config.block_size,
        least + config.num_blocks % 8,
        config.prefix_caching,
        config.chunked_prefill,
        config.offload_blocks,
    )


def play(config, asked, until=None, seed=1):
    """Send requests at their times and run to the end; gives the engine, sequences and all outcomes."""
    engine = Engine(config, TIMES, Noise(0.1, 0.0, seed))
    engine.keep_decoders = True
    arrivals = sorted(
        (
            (
                at,
                Sequence(
                    number, prompt, answer, tuple(text * 1000 + i for i in range(64 // config.block_size))
                ),
            )
            for number, (prompt, answer, text, at) in enumerate(asked)
        ),
        key=lambda pair: pair[0],
    )
    sequences = [sequence for _, sequence in arrivals]
    now, outcomes = 0.0, []
    while arrivals or engine.busy:
        while arrivals and arrivals[0][0] <= now:
            engine.add(arrivals.pop(0)[1], now)
        following = arrivals[0][0] if arrivals else float("inf")
        outcome = engine.step(now, following if until else None)
        if outcome is None:
            now = following
            continue
        outcomes.append(outcome)
        now = outcome.ends_s
        check(engine, outcome)
        assert len(outcomes) < 20_000
    return engine, sequences, outcomes


def check(engine, outcome):
    """What holds after every step."""
    config, pool = engine.config, engine.pool
    assert 0 <= pool.used <= pool.total
    assert pool.used + pool.free == pool.total
    assert engine.running <= config.max_num_seqs
    assert outcome.prefill_tokens + outcome.decoding <= config.max_num_batched_tokens
    assert len(outcome.decoders) == outcome.decoding
    held = sum(len(s.held) for s in (*engine.decoding.values(), *filter(None, [engine.prefilling])))
    assert held >= 0
    assert outcome.duration_s > 0


@given(configs, requests)
def test_every_request_gets_its_tokens_and_every_block_comes_back(config, asked):
    """Nothing starves, nothing is lost or emitted twice, and no block leaks, preempted or not."""
    for tight in (config, small(config)):
        engine, sequences, outcomes = play(tight, asked)
        emitted = {sequence.id: 0 for sequence in sequences}
        for outcome in outcomes:
            for sequence in (*outcome.decoders, *outcome.prefilled):
                emitted[sequence.id] += 1
        assert emitted == {sequence.id: sequence.output_tokens for sequence in sequences}
        assert sorted(s.id for o in outcomes for s in o.finished) == sorted(emitted)
        assert engine.counters.generation_tokens == sum(emitted.values())
        assert engine.counters.prompt_tokens == sum(s.prompt_tokens for s in sequences)
        assert engine.pool.used == 0
        assert engine.reset_prefix_cache()
        assert engine.pool.free == engine.pool.total


@given(configs, requests)
def test_the_same_seed_gives_the_same_steps(config, asked):
    """The outcome is a function of requests, settings and seed."""

    def summary(outcomes):
        return [(o.started_s, o.duration_s, o.decoding, [s.id for s in o.finished]) for o in outcomes]

    assert summary(play(config, asked)[2]) == summary(play(config, asked)[2])


@given(configs, requests)
@example(  # a waiting prompt's cached blocks are evicted while others decode
    EngineConfig(3, 6, 64, 1, 81, prefix_caching=True, chunked_prefill=True, offload_blocks=0),
    [(1, 1, 0, 0.0), (1, 15, 0, 1.5), (1, 21, 0, 1.40625), (18, 17, 1, 1.4375)],
)
def test_runs_of_steps_change_nothing(config, asked):
    """Whether steps are taken one by one or in runs, each request ends at the same time."""

    def ends(outcomes):
        return {s.id: round(o.ends_s, 6) for o in outcomes for s in o.finished}

    for tight in (config, small(config)):
        assert ends(play(tight, asked)[2]) == ends(play(tight, asked, until=True)[2])


@given(configs, requests)
def test_first_come_first_served(config, asked):
    """Requests are admitted in the order in which they came."""
    _, sequences, _ = play(config, asked)
    starts = [sequence.scheduled_s for sequence in sequences]
    assert starts == sorted(starts)
    assert all(s.scheduled_s >= s.arrived_s for s in sequences)

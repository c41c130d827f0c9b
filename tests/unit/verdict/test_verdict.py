"""Evidence to verdict: what voids a row, what informs, and what stays unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.verdict.codes import CODES
from rocbench.verdict.judge import Evidence, judge

SOUND = Evidence(
    server_kind="process",
    simulated=False,
    platform="rocm",
    load_shape="closed",
    ignore_eos=True,
    concurrency=100,
    achieved_concurrency=99.5,
    duration_s=60,
    completed=2000,
    failed=0,
    unfinished=0,
    resent_after_reset=0,
    resent_after_close=0,
    requests_per_user=20,
    window_ended_by="duration",
    littles_law_ratio=1.01,
    output_throughput=5000,
    longest_silence_ms=120.0,
    stall_limit_ms=1000.0,
    stalled_share=0.0,
    p99_ttft_ms=40.0,
    p99_ttft_by_clock_ms=40.0,
    median_ttft_ms=30.0,
    drift_low=-0.01,
    drift_high=0.02,
    isl=1024,
    isl_had=1024,
    isl_off_share=0.0,
    osl_off_share=0.0,
    osl_had=256,
    coalesced_share=0.001,
    usage_disagrees_share=0.0,
    one_piece_share=0.0,
    unknown_text_share=0.0,
    unknown_end_share=0.0,
    first_chunk_tokens=1.0,
    matched_ttft_ms=212.0,
    matched_server_ttft_ms=200.0,
    matched_tpot_ms=10.1,
    matched_server_tpot_ms=10.0,
    matched_e2el_ms=2790.0,
    matched_server_e2el_ms=2750.0,
    clock_step_ms=0.01,
    transport="wire",
    client_workers=1,
    client_cpu_share_max=0.3,
    client_busy_share_max=0.35,
    client_longest_pause_ms=8,
    open_file_limit=65536,
    client_output_tokens=500_000,
    client_prompt_tokens=2_048_000,
    client_unsure_tokens=0,
    server_running_max=100,
    server_waiting_median=0,
    server_output_tokens=500_000,
    server_prompt_tokens=2_048_000,
    prefix_cache_hits=0,
    preemptions=0,
    server_frontend_cpu_share=0.5,
    server_cpu_wait_share=0.01,
    health_failures=0,
    server_restarted=False,
    counters_fell="",
    metrics_lost=False,
    jit_lines=0,
    compile_lines=0,
    plan_differences="",
    roofline_share=0.4,
    throttled=False,
    gpu_shared=False,
)

OPEN = {
    "load_shape": "open",
    "concurrency": None,
    "requests_per_user": None,
    "late_sends": 0,
    "dropped_sends": 0,
    "arrival_rate": 33.3,
    "backlog_slope_per_s": 0.0,
    "unserved_share": 0.0,
    "arrival_noise_share": 0.03,
    "idle_share": 0.0,
    "latency_slope": 0.0,
    "mean_lateness_ms": 0.1,
}
"""What an open loop has in place of users."""
FIRES = {
    "no_measurement": {"window_ended_by": "never_began"},
    "interrupted": {"window_ended_by": "interrupted"},
    "server_changed": {"server_restarted": True},
    "counters_fell": {"counters_fell": "generation_tokens_total"},
    "server_failed": {"server_failed": True},
    "load_failed": {"load_failed": True},
    "server_unresponsive": {"window_ended_by": "server_unresponsive"},
    "request_refused": {"request_refused": True},
    "health_failed": {"health_failures": 1},
    "concurrency_not_delivered": {"achieved_concurrency": 97.9},
    "too_few_requests": {"requests_per_user": 4.9},
    "max_duration_reached": {"window_ended_by": "max_duration"},
    "count_bound": {"window_ended_by": "count"},
    "error_rate": {"failed": 25},
    "requests_resent": {"resent_after_reset": 15, "failed": 10},
    "overloaded": OPEN | {"backlog_slope_per_s": 5.5, "unserved_share": 0.17, "latency_slope": 0.2},
    "backlog_unsure": OPEN | {"unserved_share": 0.13},
    "unfinished_requests": {"unfinished": 25},
    "few_requests_rate_bias": {"rate_bias_share": 0.05},
    "few_requests_token_rate": {"token_rate_gap_share": -0.13},
    "server_stalled": {"longest_silence_ms": 5000.0},
    "coordinated_omission": {"stalled_share": 0.08, "p99_ttft_by_clock_ms": 4400.0},
    "wrong_input_length": {"isl_off_share": 0.02},
    "wrong_output_length": {"osl_off_share": 0.02},
    "natural_lengths": {"ignore_eos": False, "osl_off_share": 0.5},
    "client_saturated": {"client_busy_share_max": 0.95},
    "open_file_limit": {"open_file_limit": 128},
    "clock_stepped": {"clock_step_ms": 3.0},
    "power_disagrees": {"energy_disagreement": -0.4},
    "power_above_cap": {"mean_power_w": 5506.0, "power_cap_w": 750.0},
    "stamps_coalesced": {"coalesced_share": 0.2},
    "late_sends": OPEN | {"late_sends": 30, "mean_lateness_ms": 3.5},
    "littles_law": {"littles_law_ratio": 0.5},
    "not_steady": {"drift_low": 0.06, "drift_high": 0.08},
    "prefix_cache_hits": {"prefix_cache_hits": 500_000},
    "token_count_disagrees": {"server_output_tokens": 510_000},
    "usage_disagrees": {"usage_disagrees_share": 0.02},
    "first_chunk_of_many": {"first_chunk_tokens": 20.0},
    "not_streamed": {"one_piece_share": 0.06},
    "unknown_text": {"unknown_text_share": 0.02},
    "unknown_end": {"unknown_end_share": 0.02},
    "server_latency_disagrees": {"matched_tpot_ms": 7.0},
    "metrics_gone": {"metrics_lost": True},
    "server_differs_from_plan": {"plan_differences": "block_size: 16, planned 1"},
    "server_starved": {"server_cpu_wait_share": 0.11},
    "simulator_late": {"simulated": True, "simulator_late_share": 0.5},
    "jit_in_window": {"jit_lines": 1},
    "compile_in_window": {"compile_lines": 1},
    "above_hardware_limit": {"roofline_share": 1.32},
    "shape_unsure": {"roofline_share": 1.32, "shape_doubts": "model_type: 'new' was not checked"},
    "gpu_shared": {"gpu_shared": True},
    "throttled": {"throttled": True},
    "server_frontend_saturated": {"server_frontend_cpu_share": 0.97},
    "queued_at_server": {"server_running_max": 64, "server_waiting_median": 36},
    "preempted": {"preemptions": 3},
    "few_samples_p99": {"completed": 300},
    "forced_rules": {"forced_rules": True},
    "imported": {"imported": True},
}


def test_sound_evidence_is_valid():
    """With every needed check made and none firing, the row is valid and says nothing."""
    verdict = judge(SOUND)
    assert verdict.valid is True
    assert verdict.reasons == ()


def test_no_evidence_is_unknown():
    """Nothing known is not "fine": no code fires and every needed check is listed."""
    verdict = judge(Evidence())
    assert verdict.valid is None
    assert verdict.reasons == ()
    needed = {c.id for c in CODES if c.needed} - {
        "late_sends",
        "concurrency_not_delivered",
        "too_few_requests",
        "simulator_late",
    }
    assert {"late_sends", *needed} <= {*verdict.unknown, "concurrency_not_delivered"}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.id)
def test_each_code_fires_on_its_own_evidence(code):
    """One piece of bad evidence gives its code, with the effect that the table states."""
    verdict = judge(replace(SOUND, **FIRES[code.id]))
    assert code.id in verdict.reasons
    assert verdict.valid is {"voids": False, "informs": True, "unknown": None}[code.effect]


@pytest.mark.parametrize("code", [c for c in CODES if c.needed], ids=lambda code: code.id)
def test_needed_checks_are_really_needed(code):
    """Without the evidence of a needed check, the row is unknown unless the check has no meaning for it."""
    missing = {
        "no_measurement": {"completed": None},
        "interrupted": {"window_ended_by": None},
        "server_changed": {"server_restarted": None},
        "concurrency_not_delivered": {"achieved_concurrency": None},
        "too_few_requests": {"requests_per_user": None, "completed": None},
        "error_rate": {"failed": None},
        "wrong_input_length": {"isl_off_share": None, "isl_had": None},
        "wrong_output_length": {"osl_off_share": None},
        "client_saturated": {"client_cpu_share_max": None},
        "clock_stepped": {"clock_step_ms": None},
        "stamps_coalesced": {"coalesced_share": None},
        "late_sends": {"load_shape": "open"},
        "prefix_cache_hits": {"prefix_cache_hits": None},
        "token_count_disagrees": {"server_output_tokens": None},
        "server_differs_from_plan": {"plan_differences": None},
        "server_starved": {"server_cpu_wait_share": 0.11},
        "simulator_late": {"simulated": True},
    }[code.id]
    verdict = judge(replace(SOUND, **missing))
    assert verdict.valid is None
    assert code.id in verdict.unknown


def test_a_failed_check_outweighs_an_unknown_one():
    """Known to be wrong is wrong, whatever else is not known."""
    verdict = judge(replace(SOUND, server_output_tokens=None, clock_step_ms=50.0))
    assert verdict.valid is False


def test_voids_come_first():
    """Reasons begin with what voids the row."""
    verdict = judge(replace(SOUND, preemptions=3, clock_step_ms=50.0))
    assert verdict.reasons == ("clock_stepped", "preempted")


def test_attached_server_without_metrics_is_unknown():
    """No counters: neither the cache nor the tokens can be checked, so the row is unknown, not valid."""
    verdict = judge(
        replace(
            SOUND,
            server_kind="attached",
            prefix_cache_hits=None,
            server_output_tokens=None,
            plan_differences=None,
            server_running_max=None,
        )
    )
    assert verdict.valid is None
    assert {"prefix_cache_hits", "token_count_disagrees", "queued_at_server"} <= set(verdict.unknown)
    assert "server_differs_from_plan" not in verdict.unknown


def test_usage_can_prove_cached_prompts():
    """Without the server's counter, cached tokens in the client's usage void the row."""
    verdict = judge(replace(SOUND, prefix_cache_hits=None, cached_tokens=100_000))
    assert "prefix_cache_hits" in verdict.reasons


def test_a_preempted_request_may_find_its_own_blocks():
    """Hits that preemption explains void nothing."""
    verdict = judge(replace(SOUND, prefix_cache_hits=3000, preemptions=4))
    assert verdict.valid is True
    assert verdict.reasons == ("preempted",)


def test_asked_for_prefix_hits_are_allowed():
    """A workload with a shared prefix expects its hits."""
    assert judge(replace(SOUND, prefix_cache_hits=500_000, prefix_cache_hits_expected=500_000)).valid is True


def test_text_prompts_may_carry_a_template():
    """Text has no exact length: a chat template's tokens are allowed, half a prompt more is not."""
    text = replace(SOUND, isl_off_share=None, isl=64)
    assert judge(replace(text, isl_had=101)).valid is True
    assert "wrong_input_length" in judge(replace(text, isl_had=300)).reasons


def test_failed_requests_excuse_unseen_tokens():
    """Tokens that failed requests may have received do not make the counters disagree."""
    some = replace(SOUND, completed=1990, failed=10, client_unsure_tokens=12_000)
    assert judge(replace(some, server_output_tokens=510_000)).valid is True


def test_a_pause_that_costs_users_is_the_clients():
    """Users missing and a worker that paused: the client is named as well as the missing users."""
    verdict = judge(replace(SOUND, achieved_concurrency=90, client_longest_pause_ms=80))
    assert verdict.reasons[:2] == ("concurrency_not_delivered", "client_saturated")


def test_above_the_calibrated_ceiling():
    """More tokens/s than this machine can stamp truly is the client's doing."""
    assert "client_saturated" in judge(replace(SOUND, calibrated_tokens_per_s=4000)).reasons


def test_open_loop_needs_no_concurrency():
    """An open loop's rows are valid without the checks of a closed one."""
    assert judge(replace(SOUND, **OPEN)).valid is True


@given(
    late=st.integers(1, 200),
    lateness_ms=st.floats(10.1, 3000),
    rate=st.floats(0.2, 300),
    ttft_ms=st.floats(5, 5000),
)
def test_late_sends_void_what_their_lateness_changed(late, lateness_ms, rate, ttft_ms):
    """Of 2,000 sends some are late: the row is void when they are many and their mean lateness is large."""
    mean = late * lateness_ms / 2000
    row = replace(
        SOUND,
        **OPEN
        | {"late_sends": late, "mean_lateness_ms": mean, "arrival_rate": rate, "median_ttft_ms": ttft_ms},
    )
    matters = mean > 0.1 * 1000 / rate or mean > 0.1 * ttft_ms
    assert ("late_sends" in judge(row).reasons) == (late > 20 and matters)


def test_one_first_arrival_just_late_voids_no_trace():
    """A trace of 20 lines, 100 ms apart, whose first was sent 10.6 ms late is valid."""
    trace = OPEN | {"load_shape": "trace", "late_sends": 1, "mean_lateness_ms": 0.6, "arrival_rate": 10.0}
    assert "late_sends" not in judge(replace(SOUND, completed=20, **trace)).reasons


def test_a_negative_count_of_another_tool_fires_nothing():
    """Other tools write -1 for unknown; only counts above zero void a row."""
    row = replace(SOUND, jit_lines=-1, compile_lines=-1, health_failures=-1, preemptions=-1)
    assert judge(row).reasons == judge(SOUND).reasons


def test_requests_never_sent_void_whatever_their_lateness():
    """What was due and never went out was not measured at all."""
    assert "late_sends" in judge(replace(SOUND, **OPEN | {"dropped_sends": 30})).reasons


@pytest.mark.parametrize(
    "sound",
    [
        {"idle_share": 0.05},
        {"latency_slope": 0.001},
        {"backlog_slope_per_s": 0.5},
        {"unserved_share": -0.01},
    ],
    ids=["was empty late", "no request got slower", "within the arrivals' noise", "all that came was served"],
)
def test_a_queue_grows_only_where_everything_says_so(sound):
    """A burst at the window's end, few arrivals, and long requests that do not yet end are no overload."""
    grows = OPEN | {"backlog_slope_per_s": 3.0, "unserved_share": 0.08, "latency_slope": 0.1}
    assert "overloaded" in judge(replace(SOUND, **grows)).reasons
    assert "overloaded" not in judge(replace(SOUND, **grows | sound)).reasons


def test_few_arrivals_leave_the_queue_in_doubt():
    """Chance can hide a load above capacity in a window of few arrivals, unless latency stood still."""
    few = OPEN | {"arrival_noise_share": 0.2, "latency_slope": 0.03}
    assert judge(replace(SOUND, **few)).valid is None
    assert judge(replace(SOUND, **few | {"latency_slope": 0.0})).valid is True


def test_a_stall_of_the_client_is_none_of_the_server():
    """A silence in which the client slept is not laid to the server."""
    silent = replace(SOUND, longest_silence_ms=5000.0)
    assert "server_stalled" in judge(silent).reasons
    assert "server_stalled" not in judge(replace(silent, client_longest_pause_ms=4900.0)).reasons


def test_simulated_rows_need_no_gpu():
    """GPU checks have no meaning on the simulated server and are not listed as unknown."""
    verdict = judge(replace(SOUND, simulated=True, simulator_late_share=0.0, throttled=None, gpu_shared=None))
    assert verdict.valid is True
    assert verdict.unknown == ()


def test_one_request_of_a_user_may_be_cut_off():
    """Little's law allows what a window of few requests a user cuts off."""
    wave = replace(SOUND, requests_per_user=5, littles_law_ratio=0.85)
    assert "littles_law" not in judge(wave).reasons
    assert "littles_law" in judge(replace(wave, requests_per_user=20)).reasons


def test_a_row_of_a_table_is_evidence():
    """Columns become evidence by name; NaN and None are absent, other columns are ignored."""
    row = {
        "concurrency": 64,
        "achieved_concurrency": float("nan"),
        "throttled": None,
        "isl": None,
        "model": "m",
    }
    evidence = Evidence.from_row(row, ignore_eos=True)
    assert evidence == Evidence(concurrency=64, ignore_eos=True)


def test_an_echo_servers_2000_users_are_refuted():
    """885 requests/s of 11.6 ms are 10 in flight: as a row for 2,000 users it is void by its own figures."""
    evidence = Evidence.from_row(
        {
            "concurrency": 2000,
            "completed": 20_000,
            "failed": 0,
            "request_throughput": 885,
            "mean_e2el_ms": 11.6,
        },
        imported=True,
    )
    verdict = judge(evidence)
    assert verdict.valid is False
    assert "littles_law" in verdict.reasons


def test_a_hundred_requests_are_no_thousand_users():
    """100 requests at 1,000 users never had 1,000 in flight: void, imported or not."""
    assert "too_few_requests" in judge(Evidence(concurrency=1000, completed=100, imported=True)).reasons


def test_a_request_between_two_steps_is_no_queue():
    """3 running of 4 in every reading, and one waiting in a few, is not a server that holds requests back."""
    busy = replace(
        SOUND, concurrency=4, achieved_concurrency=4, server_running_max=3, server_waiting_median=0
    )
    assert "queued_at_server" not in judge(busy).reasons
    capped = replace(
        busy, concurrency=1000, achieved_concurrency=1000, server_running_max=128, server_waiting_median=872
    )
    assert "queued_at_server" in judge(capped).reasons


def test_a_prediction_has_no_client():
    """Where nothing ran, nothing of the client can be wrong, and its checks are not missed."""
    row = replace(
        SOUND,
        simulated=True,
        predicted=True,
        client_cpu_share_max=None,
        client_longest_pause_ms=None,
        open_file_limit=None,
    )
    assert judge(row).valid is True


@pytest.mark.parametrize(
    ("share", "more", "expected"),
    [
        (0.099, {}, False),
        (0.101, {}, True),
        (None, {}, None),
        (0.9, {"predicted": True}, False),
        (0.9, {"simulated": True, "simulator_late_share": 0.005}, False),  # its own schedule was kept
        (0.9, {"simulated": True, "simulator_late_share": 0.02}, True),
        (0.9, {"simulated": True}, True),
    ],
)
def test_starved_server(share, more, expected):
    """Voids above 10 %; unknown where nothing was read, which holds no row back; a simulated one by what came late."""
    verdict = judge(replace(SOUND, server_cpu_wait_share=share, **more))

    assert ("server_starved" in verdict.reasons) is bool(expected)
    assert ("server_starved" in verdict.unknown) is (expected is None)
    if expected is None:
        assert verdict.valid is True


@pytest.mark.parametrize(
    ("changes", "disagrees"),
    [
        ({"matched_ttft_ms": 270.0}, False),  # 25 ms + 25 %
        ({"matched_ttft_ms": 280.0}, True),
        ({"matched_ttft_ms": 280.0, "server_answer_ms": 10.0}, False),  # a server that is far away
        (
            {"matched_ttft_ms": 400.0, "server_frontend_cpu_share": 0.95},
            False,
        ),  # requests wait for the API process
        ({"matched_ttft_ms": 180.0}, True),  # no answer comes before it is made
        ({"matched_e2el_ms": 3600.0}, True),
        ({"matched_tpot_ms": 11.9}, False),
        ({"matched_tpot_ms": 12.1}, True),
        ({"matched_tpot_ms": 0.0, "server_frontend_cpu_share": 0.95}, True),
    ],
)
def test_the_servers_own_latency_contradicts_the_clients(changes, disagrees):
    """What lies between the two clocks is allowed for; beyond it the row doubts."""
    verdict = judge(replace(SOUND, **changes))
    assert ("server_latency_disagrees" in verdict.reasons) is disagrees
    assert verdict.valid is (None if disagrees else True)


@pytest.mark.parametrize(
    ("median_ms", "disagrees"), [(30.0, False), (100.0, False), (121.0, True), (4.0, True), (None, None)]
)
def test_the_servers_bucket_is_held_against_the_median_where_no_request_is_matched(median_ms, disagrees):
    """The bucket is of all phases, so that only a median far outside it contradicts."""
    unmatched = dict.fromkeys(name for name in Evidence.__slots__ if name.startswith("matched_"))
    evidence = replace(
        SOUND,
        **unmatched,
        median_ttft_ms=median_ms,
        server_median_ttft_low_ms=20.0,
        server_median_ttft_high_ms=40.0,
    )
    verdict = judge(evidence)
    assert ("server_latency_disagrees" in verdict.reasons) is bool(disagrees)
    assert ("server_latency_disagrees" in verdict.unknown) is (disagrees is None)

"""/metrics: parsing, readings, and the columns of the window and the load."""

import math

import pytest

from nasty import MODES, nasty
from rocbench.probe import scrape
from rocbench.probe.scrape import Scraper, labels, load_view, median_bucket, parse, window_view
from rocbench.records import ServerSample

S = 1_000_000_000
TEXT = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0"} 100.0
vllm:generation_tokens_created{engine="0"} 1.7e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 5.0
vllm:time_to_first_token_seconds_count{engine="0"} 5.0
vllm:time_to_first_token_seconds_sum{engine="0"} 2.5
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.1"} 1.0
vllm:e2e_request_latency_seconds_sum{engine="0"} 9.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",engine="0"} 1.0
vllm:cache_config_info{block_size="16",engine="1"} 1.0
# TYPE rocbench_sim:late_steps counter
rocbench_sim:late_steps_total 2.0
# TYPE http_requests counter
http_requests_total{handler="/health"} 17.0
"""


def sample(at_s: float, **values: float) -> ServerSample:
    """A reading at a second."""
    return ServerSample(int(at_s * S), values)


def test_parse():
    """vLLM's names without prefix, summed over engines; of shares the maximum; nothing else."""
    assert parse(TEXT) == {
        "num_requests_running": 7.0,
        "kv_cache_usage_perc": 0.75,
        "generation_tokens_total": 100.0,
        "time_to_first_token_seconds_bucket:0.1": 3.0,
        "time_to_first_token_seconds_bucket:+Inf": 5.0,
        "time_to_first_token_seconds_count": 5.0,
        "time_to_first_token_seconds_sum": 2.5,
        "e2e_request_latency_seconds_sum": 9.0,
        "sim_late_steps_total": 2.0,
    }


def test_parse_nothing():
    """An empty answer, or one of another server, has no values."""
    assert parse("") == parse("# nothing\nprocess_cpu_seconds_total 1.0\n") == {}


def test_values_that_are_no_numbers():
    """NaN is absent; a bucket whose bound is not a number is an error, like any damaged line."""
    assert parse("vllm:generation_tokens_total NaN\nvllm:kv_cache_usage_perc 0.5\n") == {
        "kv_cache_usage_perc": 0.5
    }
    with pytest.raises(ValueError, match="could not convert"):
        parse('vllm:time_to_first_token_seconds_bucket{le="x"} 1\n')


def test_labels_of_each_engine():
    """Each engine reports the cache configuration."""
    assert [found["engine"] for found in labels(TEXT, "vllm:cache_config_info")] == ["0", "1"]
    assert labels(TEXT, "vllm:lora_requests_info") == []


def test_window_takes_only_what_lies_inside():
    """Gauges of warm-up and drain do not count."""
    samples = [
        sample(1, num_requests_running=99, num_requests_waiting=50, kv_cache_usage_perc=0.9),
        sample(2, num_requests_running=10, num_requests_waiting=0, kv_cache_usage_perc=0.4),
        sample(3, num_requests_running=12, num_requests_waiting=3, kv_cache_usage_perc=0.3),
        sample(4, num_requests_running=99, num_requests_waiting=50, kv_cache_usage_perc=0.9),
    ]

    assert window_view(samples, 2 * S, 4 * S) == {
        "server_running_max": 12,
        "server_waiting_max": 3,
        "server_waiting_median": 1.5,
        "server_kv_usage_max": 0.4,
        "metrics_lost": False,
    }


def test_no_metrics_is_not_lost_metrics():
    """Without any metrics `metrics_lost` is unknown."""
    assert set(window_view([], 0, 60 * S).values()) == {None}


@pytest.mark.parametrize("stamps", [range(31), [*range(20), *range(30, 61)]])
def test_lost_metrics(stamps):
    """Readings that stop before the window's end, or have a gap of more than 5 s, are lost metrics."""
    samples = [sample(at, num_requests_running=1) for at in stamps]

    assert window_view(samples, 0, 60 * S)["metrics_lost"] is True


def test_load_deltas():
    """Counters are differences from before the first send to after the drain."""
    before = sample(0, generation_tokens_total=10, prompt_tokens_total=100, num_preemptions_total=1)
    after = sample(
        9,
        generation_tokens_total=110,
        prompt_tokens_total=400,
        num_preemptions_total=1,
        prefix_cache_hits_total=64,  # a counter that appeared in between began at 0
        spec_decode_num_draft_tokens_total=200,
        spec_decode_num_accepted_tokens_total=150,
        sim_steps_total=1000,
        sim_late_steps_total=5,
    )

    view = load_view(before, after)

    assert view["server_output_tokens"] == 100
    assert view["server_prompt_tokens"] == 300
    assert view["preemptions"] == 0
    assert view["prefix_cache_hits"] == 64
    assert view["spec_acceptance"] == 0.75
    assert view["simulator_late_share"] == 0.005
    assert view["prefix_cache_queries"] is None
    assert view["server_mean_ttft_ms"] is None


def test_missing_edge_is_absent():
    """Without a reading at one edge the columns are None, not zero."""
    assert set(load_view(None, sample(1, generation_tokens_total=5)).values()) == {None}
    assert set(load_view(sample(1, generation_tokens_total=5), None).values()) == {None}


def test_ttft_of_the_server():
    """Mean and the median's bucket, of the load alone."""
    key = "time_to_first_token_seconds"

    def reading(at, *counts):
        bounds = ("0.1", "0.25", "0.5", "+Inf")
        return sample(
            at,
            **{f"{key}_bucket:{bound}": float(count) for bound, count in zip(bounds, counts, strict=True)},
            **{f"{key}_sum": 0.2 * counts[-1], f"{key}_count": float(counts[-1])},
        )

    before, after = reading(0, 50, 50, 50, 50), reading(9, 51, 53, 60, 60)

    view = load_view(before, after)
    assert view["server_mean_ttft_ms"] == pytest.approx(200)
    assert (view["server_median_ttft_low_ms"], view["server_median_ttft_high_ms"]) == (250, 500)
    assert median_bucket(before, reading(9, 50, 50, 50, 60)) == (0.5, math.inf)
    assert median_bucket(before, before) == (None, None)


@pytest.fixture
def metrics_server(server):
    """A server of /metrics whose status a test can change."""
    server[1]["body"] = TEXT
    return server


def test_exact_reading(metrics_server):
    """A reading on demand is kept among the samples, stamped by the wall clock."""
    url, _ = metrics_server
    scraper = Scraper(url)

    reading = scraper.read_now()

    assert reading is not None
    assert reading.values["num_requests_running"] == 7
    assert scraper.samples == [reading]


def test_settled_reading(metrics_server, monkeypatch):
    """Counters that still change after the last answer are read until they are stable."""
    counts = iter([5.0, 7.0, 9.0, 9.0, 11.0])
    scraper = Scraper(metrics_server[0])
    monkeypatch.setattr("rocbench.probe.scrape.parse", lambda _: {"generation_tokens_total": next(counts)})

    reading = scraper.read_settled()

    assert reading is not None
    assert reading.values == {"generation_tokens_total": 9.0}
    assert len(scraper.samples) == 4
    assert Scraper("http://127.0.0.1:9").read_settled() is None


def test_endpoint_gone(metrics_server):
    """Metrics that disappear are counted with a reason, without an exception."""
    url, state = metrics_server
    scraper = Scraper(url)
    state["status"] = 404

    assert scraper.read_now() is None
    assert (scraper.failed_reads, scraper.last_error) == (1, "/metrics: HTTP 404")
    assert Scraper("http://127.0.0.1:9").read_now() is None


def test_thread_samples(metrics_server):
    """It reads each period while it is open, and stops when it is closed."""
    url, _ = metrics_server
    with Scraper(url, period_s=0.01) as scraper:
        while len(scraper.samples) < 3:
            pass
    count = len(scraper.samples)

    assert scraper._thread is not None
    assert not scraper._thread.is_alive()
    assert len(scraper.samples) == count


def test_the_start_time_of_the_process_is_kept():
    """prometheus_client's own line has no prefix of vLLM."""
    assert parse("process_start_time_seconds 1.5e9\nprocess_open_fds 9\n") == {
        "process_start_time_seconds": 1.5e9
    }


@pytest.mark.parametrize("number", ["9" * 400, "1 " + "9" * 400, "NaN", "1e308", "1e300", "-Inf", "9" * 5000])
def test_numbers_that_are_none(number):
    """An impossible number is absent, or fails its reading; it never gets into a row."""
    text = f"vllm:num_requests_running {number}\nvllm:num_requests_running {number}\nvllm:num_requests_waiting 1\n"
    try:
        assert parse(text).get("num_requests_running") is None
    except ValueError:
        return


def test_metrics_too_large_are_read_once():
    """They are not requested again, and the cell has the reason."""
    with nasty(MODES["metrics_50mb"]) as url, Scraper(url) as scraper:
        assert scraper.read_now() is None
        assert scraper.read_now() is None

    view = scraper.view()
    assert view["metrics_note"] == "/metrics: the answer is larger than 8 MiB"
    assert view["metrics_failed"] in {1, 2}  # the thread reads too


def test_metrics_that_never_come_whole_are_given_up(monkeypatch):
    """After two time-outs without any reading before, a cell does not wait for more."""
    monkeypatch.setattr(scrape, "LOST_S", 0.2)
    with nasty(MODES["metrics_byte_a_second"]) as url:
        scraper = Scraper(url)
        for _ in range(5):
            assert scraper.read_now() is None

    assert scraper.failed_reads == 2
    assert scraper.given_up

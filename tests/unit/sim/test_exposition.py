"""The text form of metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from rocbench.sim.exposition import Buckets, Exposition, Histograms, one_two_five


def families(page):
    """Parsed by the Prometheus client's own parser."""
    return {family.name: family for family in text_string_to_metric_families(page.text())}


def test_a_histogram_is_cumulative():
    """Each bucket counts all below its bound, and the last counts everything."""
    buckets = Buckets((1.0, 2.0))
    buckets.observe(0.5)
    buckets.observe(2.0, 3)
    buckets.observe(9.0)
    page = Exposition("m")
    page.histogram("vllm:x_seconds", [buckets])
    samples = families(page)["vllm:x_seconds"].samples
    assert [s.value for s in samples if s.name.endswith("_bucket")] == [1, 4, 5]
    assert next(s.value for s in samples if s.name.endswith("_sum")) == 0.5 + 6.0 + 9.0


def test_names_labels_and_types():
    """Counters end in _total, every sample has the model and the engine, quotes are escaped."""
    page = Exposition('a"b\\c')
    page.counter("vllm:prompt_tokens", [3, 4])
    page.gauge("vllm:num_requests_running", [2])
    page.by("vllm:request_success", "finished_reason", [{"stop": 1.0}])
    page.info("vllm:cache_config_info", [{"block_size": "16"}])
    parsed = families(page)
    assert parsed["vllm:prompt_tokens"].type == "counter"
    assert parsed["vllm:prompt_tokens"].samples[0].labels == {"model_name": 'a"b\\c', "engine": "0"}
    assert [s.labels["engine"] for s in parsed["vllm:prompt_tokens"].samples] == ["0", "1"]
    assert parsed["vllm:request_success"].samples[0].labels["finished_reason"] == "stop"
    assert parsed["vllm:cache_config_info"].samples[0].value == 1


def test_buckets_are_those_of_vllm():
    """Token buckets are 1, 2, 5, 10, ... up to the model's length."""
    assert one_two_five(100) == (1, 2, 5, 10, 20, 50, 100)
    assert Histograms(100).time_to_first_token_seconds.bounds[:3] == (0.001, 0.005, 0.01)

"""The simulated server's /metrics: read by the Prometheus client and by the project's own scraper."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

import simnodes
from rocbench.probe import scrape
from rocbench.sim.histograms import Buckets, Histograms, one_two_five
from rocbench.sim.http import SimServer
from rocbench.sim.metricspage import metrics_page

NAME = 'a"b\\c'


def page(vllm="0.14.1"):
    """The page of two engines with a few counts, and its families by name."""

    async def written():
        argv, env = simnodes.argv_of(vllm=vllm)
        flags = ["--tensor-parallel-size", "4", "--data-parallel-size", "2", "--served-model-name", NAME]
        node = simnodes.node(vllm=vllm, argv=[*argv, *flags], env=env)
        server = SimServer(node, simnodes.context(vllm=vllm), {}, asyncio.get_running_loop())
        for number, live in enumerate(server.lives, 1):
            live.counters.prompt_tokens = 3 * number
            live.counters.prefix_hits = 5
            live.histograms.time_to_first_token_seconds.observe(0.5)
            live.histograms.time_to_first_token_seconds.observe(2.0, 3)
            live.histograms.time_to_first_token_seconds.observe(9e9)
        server.lives[0].finished["stop"] = 4
        server.lives[1].extra_hits = 2
        return metrics_page(server)

    text = asyncio.run(written())
    return text, {family.name: family for family in text_string_to_metric_families(text)}


def test_the_projects_scraper_reads_the_page():
    """Counters and gauges are summed over engines, the configuration is there per engine."""
    text, _ = page()
    values = scrape.parse(text)
    assert values["prompt_tokens_total"] == 3 + 6
    assert values["prefix_cache_hits_total"] == 5 + 5 + 2
    assert values["request_success_total"] == 4
    assert values["num_requests_running"] == values["sim_steps_total"] == 0
    assert values["time_to_first_token_seconds_count"] == 10
    assert values["time_to_first_token_seconds_bucket:2.5"] == 8
    assert values["process_start_time_seconds"] > 1e9
    blocks = [config["block_size"] for config in scrape.labels(text, "vllm:cache_config_info")]
    assert blocks == ["16", "16"]


def test_names_types_and_labels():
    """Counters end in _total, samples have the model's name (escaped) and the engine."""
    text, families = page()
    assert families["vllm:prompt_tokens"].type == "counter"
    samples = families["vllm:prompt_tokens"].samples
    assert [s.labels for s in samples] == [{"model_name": NAME, "engine": n} for n in "01"]
    assert families["vllm:num_requests_running"].type == "gauge"
    assert families["vllm:request_success"].samples[0].labels["finished_reason"] == "stop"
    assert families["vllm:cache_config_info"].samples[0].value == 1
    assert families["rocbench_sim:late_seconds"].type == "counter"
    assert "vllm:prompt_tokens_cached" not in families
    assert "vllm:prompt_tokens_cached" in page("0.16.0")[1]
    assert text.endswith("\n")


def test_a_histogram_is_cumulative():
    """Each bucket counts all values up to its bound, and the last one all values."""
    buckets = Buckets((1.0, 2.0))
    buckets.observe(0.5)
    buckets.observe(2.0, 3)
    buckets.observe(9.0)
    assert list(buckets.cumulative()) == [("1.0", 1), ("2.0", 4), ("+Inf", 5)]
    assert buckets.total == 0.5 + 6.0 + 9.0
    _, families = page()
    family = families["vllm:time_to_first_token_seconds"]
    assert family.type == "histogram"
    assert [s.value for s in family.samples if s.name.endswith("_bucket")][-4:] == [4, 4, 4, 5]


def test_buckets_are_those_of_vllm():
    """Token buckets are 1, 2, 5, 10, ... up to the model's length."""
    assert one_two_five(100) == (1, 2, 5, 10, 20, 50, 100)
    edges = [edge for edge, _ in Histograms(100).time_to_first_token_seconds.cumulative()]
    assert edges[:3] == ["0.001", "0.005", "0.01"]

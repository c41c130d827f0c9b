"""`bench sweep --base-url` against a server that is another one from some moment on."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

import pytest

from scripted import answer, asked, scripted


@dataclass
class Replaced:
    """A server with metrics. `becomes` another one at a moment that it tells by what it was asked before."""

    becomes: str
    """between: before the second cell. within: under its load. in turn: two answer by turns."""
    asks: int = 0
    """How often its version was asked for: four times before the first cell, then at the end of each and before the next."""
    tokens: int = 0
    second: bool = False
    turns: itertools.count[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, exchange):
        """Answer one request."""
        if exchange.path == "/health":
            exchange.respond(200)
        elif exchange.path == "/version":
            self.asks += 1
            self.second |= self.becomes == "between" and self.asks == 6
            exchange.respond_json(
                200, {"version": "0.15.0" if self.becomes == "between" and self.second else "0.14.1"}
            )
        elif exchange.path == "/v1/models":
            exchange.respond_json(200, {"data": [{"id": "m", "max_model_len": 64}]})
        elif exchange.path == "/metrics":
            exchange.respond(200, self.metrics().encode())
        elif exchange.path == "/v1/completions":
            if self.becomes == "within" and self.asks == 6 and not self.second:
                self.second, self.tokens = True, 0
            with self.lock:
                self.tokens += asked(exchange)
            answer(exchange)
        else:
            exchange.respond(404)

    def metrics(self) -> str:
        """What it counts."""
        tokens, began = self.tokens, 1000.0 + self.second
        if self.becomes == "in turn":
            turn = next(self.turns) % 2
            tokens, began = tokens * turn, 1000.0 + turn
        return f"process_start_time_seconds {began}\nvllm:generation_tokens_total {tokens}\n"


def swept(bench, becomes):
    """Three cells on it."""
    with scripted(Replaced(becomes)) as url:
        return bench.run(
            "sweep", "--base-url", url, "--model", "m", "--concurrency", "1,2,3", "--isl", "16", "--osl", "8",
            "--duration", "0.3", "--out", str(bench.out),
        )  # fmt: skip


def test_within_a_cell(bench):
    """That cell is void, and says what showed it; the cells after it are measured on the server that is there now."""
    ended = swept(bench, "within")
    rows = ended.rows.set_index("concurrency")

    assert "server_changed" in rows.reasons[2]
    assert rows.server_changes[2] == "the server's process restarted, according to its metrics"
    assert rows.server_output_tokens.isna().tolist() == [False, True, False]
    assert rows.server_restarted.tolist() == [False, True, False]
    assert "server_changed" not in rows.reasons[1] + rows.reasons[3]
    assert "another server answers at this address now: the server's process restarted" in ended.stderr


@pytest.mark.slow
def test_between_cells(bench):
    """Nothing is void: the next cell asks the new one what it is, and its row says its version."""
    ended = swept(bench, "between")
    rows = ended.rows.set_index("concurrency")

    assert rows.vllm_version.tolist() == ["0.14.1", "0.15.0", "0.15.0"]
    assert rows.server_restarted.tolist() == [False, False, False]
    assert "version was 0.14.1, is 0.15.0" in ended.stderr


@pytest.mark.slow
def test_several_in_turn(bench):
    """Which one answered is not known, and no figure is taken from their counters."""
    ended = swept(bench, "in turn")
    rows = ended.rows

    assert "another server" not in ended.stderr
    assert not rows.reasons.str.contains("server_changed").any()
    assert rows.reasons.str.contains("counters_fell").all()
    assert rows.server_output_tokens.isna().all()
    assert rows.unknown_checks.str.contains("server_changed").all()

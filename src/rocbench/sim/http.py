"""The simulated server's endpoints, as in vLLM."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from packaging.version import Version

from rocbench.httpd import Exchange
from rocbench.records import Failure
from rocbench.sim.clock import now_s
from rocbench.sim.engine import Engine
from rocbench.sim.faultplan import FaultPlan, FaultyStream, die
from rocbench.sim.histograms import Histograms
from rocbench.sim.live import LiveEngine
from rocbench.sim.metricspage import metrics_page
from rocbench.sim.node import Context, Node
from rocbench.sim.prompts import (
    TOKEN_BYTES,
    ApiError,
    ApiRequest,
    answer_tokens,
    block_hashes,
    parse_request,
    text_tokens,
)
from rocbench.sim.steps import Sequence
from rocbench.sim.streams import ENGINE_DEAD, IntervalStream, Stream, Whole

SLICE_S = 0.002
"""Maximum seconds spent on new requests before the loop continues, so that steps stay on time."""

GENERATE = {"/v1/completions": False, "/v1/chat/completions": True}
"""Path of each generation endpoint; True for chat."""


class SimServer:
    """Server that answers requests. Until `ready` opens it, the answers are 503."""

    def __init__(
        self, node: Node, context: Context, env: Mapping[str, str], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.node, self.context = node, context
        self.lives = [
            LiveEngine(
                Engine(node.engine, node.times, noise),
                loop,
                Histograms(node.limits.max_model_len),
                node.api_request_s,
            )
            for noise in node.noises
        ]
        """One engine for each data-parallel rank."""
        self._env = env
        self._loop = loop
        self._faults = FaultPlan(context.faults, context.seed)
        self._answers = random.Random(context.seed)
        self._created = int(time.time())
        self._ready_s = math.inf
        self._inbox: deque[tuple[Exchange, bool, float]] = deque()
        self._draining = False
        self._answered = 0
        self._received = 0
        self._dead = False

    def ready(self) -> None:
        """Open the server: the model is loaded."""
        self._ready_s = now_s()
        faults = self.context.faults
        if faults.die_after_s is not None:
            self._loop.call_later(faults.die_after_s, die)
        if faults.engine_dead_after_s is not None:
            self._loop.call_later(faults.engine_dead_after_s, self._engine_dies)

    # --- routes

    def handle(self, exchange: Exchange) -> None:
        """Route one request."""
        if now_s() < self._ready_s:
            exchange.respond(503)
            return
        key = self.node.api_key
        if (
            key
            and exchange.path.startswith("/v1")
            and exchange.headers.get("authorization") != f"Bearer {key}"
        ):
            exchange.respond_json(401, {"error": "Unauthorized"})
            return
        chat = GENERATE.get(exchange.path)
        if chat is not None and exchange.method == "POST":
            self._inbox.append((exchange, chat, now_s()))
            if not self._draining:
                self._draining = True
                self._loop.call_soon(self._drain)
            return
        self._other(exchange)

    def _other(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case ("GET", "/health") | ("GET" | "POST", "/ping"):
                exchange.respond(503 if self._unhealthy() else 200)
            case "GET", "/v1/models":
                cards = [self._card(name) for name in self.node.limits.served_names]
                exchange.respond_json(200, {"object": "list", "data": cards})
            case "GET", "/version":
                exchange.respond_json(200, {"version": self.node.version})
            case "GET", "/metrics":
                if self._metrics_gone():
                    exchange.respond_json(404, {"detail": "Not Found"})
                    return
                exchange.respond(200, metrics_page(self).encode(), "text/plain; version=0.0.4; charset=utf-8")
            case "POST", "/tokenize":
                tokens = text_tokens(str(exchange.json().get("prompt") or ""))
                answer = {
                    "count": len(tokens) // TOKEN_BYTES,
                    "max_model_len": self.node.limits.max_model_len,
                }
                exchange.respond_json(200, answer | {"tokens": list(memoryview(tokens).cast("I"))})
            case "GET", "/server_info" if self.node.dev_mode:
                text = parse_qs(exchange.query).get("config_format", ["text"])[0] != "json"
                config = self.node.config()
                info = {"vllm_config": json.dumps(config) if text else config, "vllm_env": self._vllm_env()}
                exchange.respond_json(200, info)
            case "POST", "/reset_prefix_cache" if self.node.dev_mode:
                results = [live.engine.reset_prefix_cache() for live in self.lives]
                if Version(self.node.version) >= Version("0.26"):
                    exchange.respond_json(200, {"success": all(results)})
                else:
                    exchange.respond(200)
            case _, path if path in KNOWN_PATHS:
                exchange.respond_json(405, {"detail": "Method Not Allowed"})
            case _:
                exchange.respond_json(404, {"detail": "Not Found"})

    def _card(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self.node.argv.model,
            "parent": None,
            "max_model_len": self.node.limits.max_model_len,
            "permission": [],
        }

    def _vllm_env(self) -> dict[str, str]:
        return {
            name: value for name, value in self._env.items() if name.startswith("VLLM_") and "KEY" not in name
        }

    def _unhealthy(self) -> bool:
        since, faults = now_s() - self._ready_s, self.context.faults
        if self._dead:
            return True
        start = faults.health_503_after_s
        return start is not None and start <= since < start + faults.health_503_for_s

    def _metrics_gone(self) -> bool:
        gone = self.context.faults.metrics_gone_after_s
        return gone is not None and now_s() - self._ready_s >= gone

    # --- generation

    def _drain(self) -> None:
        """Start requests for the duration of a slice."""
        until = now_s() + SLICE_S
        while self._inbox:
            exchange, chat, received_s = self._inbox.popleft()
            if not exchange.closed:
                self._begin(exchange, received_s, chat=chat)
            if self._inbox and now_s() >= until:
                self._loop.call_soon(self._drain)
                return
        self._draining = False

    def _begin(self, exchange: Exchange, received_s: float, *, chat: bool) -> None:
        failure = self._faults.draw()
        if self._dead or failure is Failure.HTTP_STATUS:
            exchange.respond_json(500, ENGINE_DEAD)
            return
        if failure is Failure.CONNECT:
            exchange.abort()
            return
        try:
            request = parse_request(exchange.body, self.node.limits, chat=chat)
        except ApiError as error:
            exchange.respond_json(error.code, error.body)
            return
        stream = self._stream(exchange, request, failure)
        if request.stream:
            exchange.begin_stream()
        live = min(self.lives, key=lambda engine: engine.load)
        exchange.on_close = lambda: live.abort(stream)
        if isinstance(stream, FaultyStream):
            stream.dropped = lambda: live.abort(stream, "error")
        live.extra_hits += self.context.faults.extra_prefix_hits
        live.submit(stream, received_s)

    def _stream(self, exchange: Exchange, request: ApiRequest, failure: Failure | None) -> Stream:
        if self.node.dialect.force_usage:
            request.include_usage = request.continuous_usage = True
        number = self._received
        self._received += 1
        length, reason = self._length(request)
        if failure is Failure.EARLY_STOP or self._faults.stops_early():
            length, reason, failure = max(1, length // 2), "stop", None
        sequence = Sequence(number, request.prompt_tokens, length, image_tokens=request.image_tokens)
        identity = ("chatcmpl-" if request.chat else "cmpl-") + uuid.UUID(
            int=self._answers.getrandbits(128)
        ).hex
        kind = Stream if request.stream else Whole
        if request.stream and self.node.dialect.interval > 1:
            kind = IntervalStream
        faulty = failure is not None or self._faults.faults.duplicate_tokens > 0
        if faulty and request.stream:
            kind = FaultyStream
        stream = kind(
            identity,
            int(time.time()),
            request,
            sequence,
            self.node.dialect,
            exchange.write_raw,
            lambda: self._end(exchange),
        )
        stream.reason = reason
        stream.miscount = self.context.faults.miscount_tokens
        if isinstance(stream, Whole):
            stream.respond = lambda status, answer: self._end(exchange, status, answer)
        if isinstance(stream, FaultyStream):
            stream.failure, stream.break_at, stream.exchange = failure, max(1, length // 2), exchange
            stream.plan = self._faults
        if self.node.engine.prefix_caching:
            answer = answer_tokens(stream.offset, length, by_id=request.by_id)
            sequence.hashes = block_hashes(request.tokens + answer, self.node.engine.block_size, request.salt)
        return stream

    def _length(self, request: ApiRequest) -> tuple[int, str]:
        """Length of the answer in tokens and the finish reason; drawn if the end of text counts."""
        if request.ignore_eos:
            return request.max_tokens, "length"
        drawn = self.node.efficiency.draw_answer(self._answers)
        if drawn >= request.max_tokens:
            return request.max_tokens, "length"
        return max(drawn, request.min_tokens), "stop"

    def _end(self, exchange: Exchange, status: int = 200, answer: dict[str, Any] | None = None) -> None:
        """Complete an answer: the end of a stream, or a whole answer."""
        if answer is None:
            exchange.end()
        else:
            exchange.respond_json(status, answer)
        self._answered += 1
        last = self.context.faults.die_after_requests
        if last is not None and self._answered >= last:
            die()

    def _engine_dies(self) -> None:
        """Let the engine die: streams get an error event, health is 503, the process ends 7 s later."""
        self._dead = True
        for live in self.lives:
            for stream in live.streams():
                stream.fail()
                live.abort(stream, "error")
        self._loop.call_later(7.0, die)


KNOWN_PATHS = {*GENERATE, "/health", "/ping", "/v1/models", "/version", "/metrics", "/tokenize"}

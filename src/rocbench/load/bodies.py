"""HTTP requests as bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from rocbench.baseurl import Endpoint
from rocbench.load.spec import Dialect, RequestPlan, Target


def base_body(plan: RequestPlan, dialect: Dialect, model: str, osl: int) -> dict[str, object]:
    """A request's body without its prompt."""
    body: dict[str, object] = {"model": model, dialect.length_field: osl}
    if dialect.temperature:
        body["temperature"] = plan.temperature
    body["stream"] = True
    if dialect.vllm_fields and plan.ignore_eos:
        body |= {"ignore_eos": True, "min_tokens": osl}
    if dialect.include_usage:
        options = {"include_usage": True}
        if dialect.continuous_usage:
            options["continuous_usage_stats"] = True
        body["stream_options"] = options
    if dialect.token_ids:
        body["return_token_ids"] = True
    return body | dict(plan.extra_body)


def completion(base: Mapping[str, object], prompt: np.ndarray[Any, Any] | Sequence[int] | str) -> bytes:
    """A body of /v1/completions; `prompt` is token ids or text."""
    return orjson.dumps({**base, "prompt": prompt}, option=orjson.OPT_SERIALIZE_NUMPY)


def chat(
    base: Mapping[str, object], messages: Sequence[tuple[str, str]], image_urls: Sequence[str] = ()
) -> bytes:
    """A body of /v1/chat/completions; images come before the last message's text."""
    *before, (role, content) = messages
    last: object = content
    if image_urls:
        last = [{"type": "image_url", "image_url": {"url": url}} for url in image_urls]
        last.append({"type": "text", "text": content})
    entries: list[dict[str, object]] = [{"role": role_, "content": text} for role_, text in before]
    entries.append({"role": role, "content": last})
    return orjson.dumps({**base, "messages": entries})


def path(where: Endpoint, *, is_chat: bool) -> str:
    """The request's path."""
    return f"{where.path}/v1/chat/completions" if is_chat else f"{where.path}/v1/completions"


def headers(target: Target) -> dict[str, str]:
    """Headers common to all requests. A header value is cut at a newline."""
    lines = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
    }
    if target.api_key:
        lines["Authorization"] = f"Bearer {target.api_key}"
    lines |= target.headers
    return {name: value.splitlines()[0] if value else "" for name, value in lines.items()}


def head_template(target: Target, where: Endpoint, *, is_chat: bool) -> bytes:
    """The HTTP head up to the place of the request's id and length."""
    lines = [f"POST {path(where, is_chat=is_chat)} HTTP/1.1", f"Host: {where.authority}"]
    lines += [f"{name}: {value}" for name, value in headers(target).items()]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def http_request(template: bytes, request_name: str, body: bytes) -> bytes:
    """Head and body of one request."""
    rest = b"X-Request-Id: %b\r\nContent-Length: %d\r\n\r\n" % (request_name.encode(), len(body))
    return template + rest + body

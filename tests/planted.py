"""Secrets planted wherever a user may have one, and a search for them, whole or in part."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def key(number: int) -> str:
    """A key that nothing else is like."""
    return f"p{number:02d}-{hashlib.sha256(str(number).encode()).hexdigest()[:28]}"


NAMED = """PGPASSWORD OPENAI_API_KEY OPENAI_API_KEY_1 AWS_BEARER_TOKEN_BEDROCK AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID
AWS_SESSION_TOKEN HF_TOKEN HF_TOKEN_READ HUGGING_FACE_HUB_TOKEN MYSQL_PWD DB_PASS GITHUB_PAT GH_TOKEN_2 NPM_CONFIG__AUTH
WANDB_API_KEY AZURE_SAS CI_JOB_JWT_V2 RAY_REDIS_PASSWORD S3_SECRET_ACCESS_KEY SLACK_WEBHOOK VLLM_EXTRA_SECRET""".split()
"""Variables whose name tells of a secret."""
ENVIRONMENT = {name: key(number) for number, name in enumerate(NAMED)}
URLS = {
    "DATABASE_URL": f"postgres://bench:{key(30)}@db:5432/x",
    "REDIS_URL": f"redis://:{key(31)}@cache/0",
    "SENTRY_DSN": f"https://{key(32)}@errors/1",
    "VLLM_USAGE_STATS_SERVER": f"https://u:{key(33)}@stats",
    "CI_REPOSITORY_URL": f"https://gitlab-ci-token:{key(34)}@git/x.git",
}
OTHERS = {
    "SSH_PRIVATE_KEY": f"-----BEGIN KEY-----\n{key(40)}\n{key(41)}\n-----END KEY-----\n",
    "DOCKER_AUTH_CONFIG": json.dumps({"auths": {"r": {"auth": key(42)}}}),
    "APP_API_KEYS": f"{key(43)},{key(44)}",
    "MYSETTING": key(45),  # nothing tells of it: it is not written, for it is not listed
    "MY_KEY": key(46),  # --api-key-env
}
SET = {  # in the sweep
    "env": {"MY_DB_PASSWORD": key(50), "UNLISTED": key(51)},
    "model_env": {"MODEL_HUB_KEY_2": key(52)},
    "override": f"env.OTHER_API_KEY={key(53)}",
    "serve_args": {
        "otlp-traces-endpoint": f"http://u:{key(54)}@collector:4317",
        "hf-token": key(55),
        "kv-transfer-config": {
            "kv_connector": "ExampleConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"password": key(56), "url": f"s3://a:{key(57)}@b"},
        },
    },
}
SURROUNDINGS = {**ENVIRONMENT, **URLS, **OTHERS}
VALUES = tuple(key(number) for number in (*range(len(NAMED)), *range(30, 35), *range(40, 47), *range(50, 58)))
ECHOED = [*NAMED, "DATABASE_URL", "MY_KEY"]
"""What a server repeats in its errors."""
_NEEDLES = tuple(value[:9].encode() for value in VALUES)


def leaks(folder: Path) -> Iterator[str]:
    """Files of a folder that hold a secret or the beginning of one, packed ones unpacked; and those that others may read."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        with suppress(FileNotFoundError):  # a file that was replaced
            if path.stat().st_mode & 0o077:
                yield f"{path} may be read by others"
            yield from (f"{path}: {found}" for found in planted_in(path.read_bytes()))
            if path.suffix == ".parquet":
                with suppress(pa.ArrowException):  # being written
                    rows: Any = pq.read_table(path).to_pylist()
                    yield from (f"{path}, read: {found}" for found in planted_in(str(rows).encode()))


def planted_in(data: bytes) -> list[str]:
    """Secrets that some bytes hold."""
    return [needle.decode() for needle in _NEEDLES if needle in data]


@contextmanager
def watched(folder: Path) -> Iterator[set[str]]:
    """What a folder leaks while something writes it, looked at again and again."""
    found: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            found.update(leaks(folder))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.update(leaks(folder))

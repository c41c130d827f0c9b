"""Which variables are shown with their values, and which names tell of secrets."""

import re
from pathlib import Path

import pytest

from rocbench.rules.load import shipped
from rocbench.variables import SHOWN, is_secret, show_more, shown

SECRET = """HF_TOKEN HF_TOKEN_READ HUGGING_FACE_HUB_TOKEN VLLM_API_KEY OPENAI_API_KEY OPENAI_API_KEY_1 OPENAI_APIKEY
VLLM_API_KEYS AWS_SECRET_ACCESS_KEY AWS_BEARER_TOKEN_BEDROCK AWS_ACCESS_KEY_ID PGPASSWORD MYSQL_PWD DB_PASS DB_PASSWORD
GITHUB_PAT GHTOKEN NPM_CONFIG__AUTH SENTRY_DSN SLACK_WEBHOOK_URL AZURE_SAS REDIS_PASSWORD_0 RAY_REDIS_PASSWORD
VLLM_ROCM_SECRET LDAP_BINDPW AZURE_STORAGE_CONNECTION_STRING REDISCLI_AUTH PGDSN KAGGLE_KEY MYSQL_ROOT_PASSWORD
SECRET_KEY_BASE SQL_CONNECTION_STRING DB_CONN_STR CI_JOB_JWT_V2 SSH_PRIVATE_KEY --api-key apiKey ssl-keyfile-password api_key_1""".split()
PLAIN = """TOKENIZERS_PARALLELISM SSH_CONNECTION PRIVATE_REGISTRY NCCL_IB_PKEY UCX_IB_PKEY BYPASS VLLM_USE_V1 HF_HOME MAX_TOKENS KEYBOARD PWD OLDPWD PATH VLLM_MAX_BAD_WORDS_TOTAL_TOKENS
VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD num_key_value_heads image_token_id max_tokens monkey tokenizer""".split()


@pytest.mark.parametrize("name", SECRET)
def test_secret_names(name):
    """Also in the middle of a variable's name, with a number behind, and grown together."""
    assert is_secret(name)
    assert not shown(name)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names(name):
    """Names that only look like it."""
    assert not is_secret(name)


def test_the_list_holds_what_matters():
    """Every variable that a known vLLM reads is shown, except keys; unlisted variables are not."""
    hidden = {name for name in shipped().names.env if not shown(name)}

    assert hidden == {"VLLM_API_KEY", "S3_ACCESS_KEY_ID", "S3_ENDPOINT_URL", "S3_SECRET_ACCESS_KEY"}
    for name in (
        "NCCL_DEBUG",
        "HSA_NO_SCRATCH_RECLAIM",
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "OMP_NUM_THREADS",
        *"DEBUG_HIP_GRAPH_DOT_PRINT DEBUG_CLR_LIMIT_BLIT_WG CUDA_DEVICE_MAX_CONNECTIONS CUDA_LAUNCH_BLOCKING".split(),
        *"FLASH_ATTENTION_TRITON_AMD_ENABLE MORI_RDMA_TC ROCSHMEM_HEAP_SIZE LMCACHE_CHUNK_SIZE FI_PROVIDER".split(),
        *"USE_ROCM_AITER_ROPE_BACKEND RUNAI_STREAMER_CONCURRENCY TP_SOCKET_IFNAME PYTHONHASHSEED".split(),
        *"HF_XET_CACHE HF_HUB_DOWNLOAD_TIMEOUT NCCL_IB_PKEY UCX_IB_PKEY".split(),
    ):
        assert shown(name)
    for name in ("DATABASE_URL", "PATH", "HOME", "MYSETTING", "HF_TOKEN_X"):
        assert not shown(name)


def test_a_user_names_more(monkeypatch):
    """But none with a secret's name."""
    monkeypatch.setattr("rocbench.variables._more", set())
    show_more("MINE, MY_TOKEN")

    assert shown("MINE")
    assert not shown("MY_TOKEN")
    assert not shown("OTHER")


def test_the_guide_lists_them_all():
    """docs/secrets.md has the table's families, each with its variables."""
    guide = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text()

    for family in SHOWN:
        (row,) = (line for line in guide.splitlines() if line.startswith(f"| {family.what} |"))
        assert set(re.findall(r"`(\w+\*?)`", row)) == {*(f"{p}*" for p in family.prefixes), *family.names}

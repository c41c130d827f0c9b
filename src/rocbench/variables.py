"""Variables whose values may be written and shown: they decide a result. Others are shown by name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Family:
    """Variables of one program, by prefixes and by single names."""

    what: str
    prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


SHOWN = (
    Family("vLLM", ("VLLM_",)),
    Family("AITER", ("AITER_",)),
    Family(
        "HIP, ROCm, HSA and GPU libraries",
        tuple("HIP_ ROCR_ HSA_ ROCM_ ROCBLAS_ HIPBLASLT_ MIOPEN_ TENSILE_ GPU_ AMD_ AMDGCN_ DEBUG_HIP_ DEBUG_CLR_".split()),
        tuple("CUDA_VISIBLE_DEVICES CUDA_HOME CUDA_DEVICE_MAX_CONNECTIONS CUDA_LAUNCH_BLOCKING CUDA_DEVICE_ORDER".split()),
    ),
    Family(
        "RCCL and NCCL, UCX, Gloo, MORI, rocSHMEM, libfabric",
        tuple("RCCL_ NCCL_ UCX_ GLOO_ MORI_ ROCSHMEM_ FI_".split()),
        ("TP_SOCKET_IFNAME",),
    ),
    Family(
        "PyTorch, Triton and flash attention",
        tuple("TORCH_ PYTORCH_ TORCHINDUCTOR_ TORCHDYNAMO_ TRITON_ FLASH_ATTENTION_ FLASH_ATTN_".split()),
    ),
    Family(
        "Hugging Face",
        ("SAFETENSORS_", "HF_XET_"),
        tuple(
            "HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_ENDPOINT HF_HUB_ENABLE_HF_TRANSFER HF_HUB_DISABLE_XET "
            "HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT HF_DATASETS_OFFLINE TRANSFORMERS_OFFLINE TOKENIZERS_PARALLELISM".split()
        ),
    ),
    Family(
        "threads and memory of the host",
        ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "MALLOC_"),
        ("LD_LIBRARY_PATH", "LD_PRELOAD", "MAX_JOBS", "PYTHONHASHSEED"),
    ),
    Family("Ray", ("RAY_",)),
    Family(
        "ranks and jobs", names=("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID")
    ),
    Family(
        "other variables that vLLM reads",
        ("MOONCAKE_", "LMCACHE_", "RUNAI_"),
        tuple("CMAKE_BUILD_TYPE FORCE_COLOR NO_COLOR K_SCALE_CONSTANT Q_SCALE_CONSTANT V_SCALE_CONSTANT "
              "NVCC_THREADS VERBOSE USE_ROCM_AITER_ROPE_BACKEND".split()),
    ),
    Family("rocbench", ("ROCBENCH_",)),
)  # fmt: skip
"""The only table. A variable with a secret's name (VLLM_API_KEY) is shown by its name alone."""

MORE = "ROCBENCH_SHOWN"
"""Names more variables (A,B) that the user declares not to be secrets."""
_more: set[str] = set()
_PREFIXES = tuple(prefix for family in SHOWN for prefix in family.prefixes)
_NAMES = frozenset(name for family in SHOWN for name in family.names)

_SECRET_SETTING = re.compile(
    r"(?:^|[_.-])(?:TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API)?KEYS?|KEY_ID|AUTH)(?:[_-]?\d+)?$"
    r"|[_.-](?:PASS|PWD|PAT)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_PART = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|PW|KEY|CREDENTIAL|WEBHOOK|AUTH|DSN|COOKIE)S?\d*$(?<!TOKENS)"
    r"|^(?:PAT|CREDS|BEARER|SIGNATURE|SAS|JWT)\d*$"
)
"""Matches also words joined to the word before: GHTOKEN, BINDPW."""
_COUNT = frozenset("THRESHOLD LIMIT BUDGET COUNT SIZE RATE LEN LENGTH ID IDS PARALLELISM".split())
"""Words that follow TOKEN where tokens are counted."""
_PLAIN = frozenset("BYPASS COMPASS".split())
_CONNECTION_STRING = re.compile(r"(?:^|_)CONN(?:ECTION)?_?STR(?:ING)?(?:_|$)")
_PLACE = frozenset("FILE PATH DIR SOCK HOME".split())


def show_more(names: str) -> None:
    """List more variables (`A,B`), in place of those that were named before."""
    _more.clear()
    _more.update(name.strip() for name in names.split(","))


def more() -> str:
    """Return the variables that `show_more` was given."""
    return ",".join(sorted(_more))


def shown(name: str) -> bool:
    """True if a variable's value may be written down and shown."""
    listed = name in _NAMES or name.startswith(_PREFIXES) or name in _more
    return listed and not is_secret(name)


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """True if a name denotes a secret: of a variable (PGPASSWORD, OPENAI_API_KEY_1), flag or field.

    A name in capitals is a variable, and a word in the middle counts: HF_TOKEN_READ. In a flag or a field
    only the last word counts: `image_token_id` is a number.
    """
    if name in {"PWD", "OLDPWD"}:  # folders
        return False
    if name != name.upper():
        return _SECRET_SETTING.search(_CAMEL.sub("_", name)) is not None
    if name.endswith("_IB_PKEY"):  # a partition of the network
        return False
    parts = [part for part in re.split(r"[^A-Z0-9]+", name) if part and part not in _PLAIN]
    return _CONNECTION_STRING.search(name) is not None or any(
        _SECRET_PART.search(part) is not None
        and not (part.startswith("TOKEN") and set(parts[at + 1 :]) & _COUNT)
        for at, part in enumerate(parts)
    )


def names_a_place(name: str) -> bool:
    """True if a variable's name denotes a secret's place: GOOGLE_CREDENTIALS_FILE, SSH_AUTH_SOCK."""
    return name.rpartition("_")[2] in _PLACE

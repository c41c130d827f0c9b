"""Asks vLLM's own configuration code. Runs in an environment that holds one release of vLLM, never in rocbench's.

Reads one question a line on stdin, writes one answer a line on stdout:

    question  {"id", "config": {config.json}, "args": [...], "env": {...}}
    answer    {"id", "accepted", "refused_at", "error", "backend", "block_size", ..., "unseen", "seconds"}

It imports vLLM once and forks one child per question, because vLLM keeps what it read of the environment. It asks as
deep as a machine without a GPU can: arguments, engine configuration, attention backend, one attention layer with its
KV cache block, decode context parallelism, and the KV connector. What it could not ask is listed in `unseen`; an absent
value means not asked, never "no".
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST_ERROR = 400
SECONDS = 300
"""Maximum time of a question."""
OWN_ATTENTION = {
    "deepseek_v41": "ROCM_FLASHMLA_SPARSE_DSV41",
    "deepseek_v4": "ROCM_FLASHMLA_SPARSE_DSV4",
    "minimax_m3": "vllm.models.minimax_m3.common.sparse_attention.MiniMaxM3SparseBackend",
    "kimi_k3": "",
}
"""Model types whose classes choose their attention themselves, with the backend on ROCm: a name of vLLM's registry,
a class, or empty if it has several."""


OURS = (ImportError, AttributeError, TypeError)
"""Errors that come from this machine or from this program (a package, an argument), and say nothing about vLLM."""


OURS_IN_WORDS = ("No module named", "does not recognize this architecture", "failed to be inspected")
"""The same in vLLM's words: a package or the checkpoint's own Python code is not here."""
VISIBLE = frozenset({"HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"})
"""Variables that vLLM's ROCm platform reads while it is imported."""


IN_DEFAULTS = frozenset({"VLLM_ATTENTION_BACKEND", "VLLM_V1_USE_PREFILL_DECODE_ATTENTION"})
"""Variables that are in the defaults of arguments, which vLLM computes once."""
SHARED = Path("/dev/shm")
"""Where vLLM keeps the host memory of KV offload; a child that ends leaves it there."""


class Refused(Exception):
    """vLLM refused at `where` with `error`."""

    def __init__(self, where: str, error: str) -> None:
        super().__init__(error)
        self.where, self.error = where, error


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """An exception inside is a refusal by vLLM at `where`, unless it is one of OURS."""
    try:
        yield
    except (Refused, *OURS):
        raise
    except (Exception, SystemExit) as error:
        if any(words in str(error) for words in OURS_IN_WORDS):
            raise ImportError(in_one_line(error)) from error
        raise Refused(where, in_one_line(error)) from error


def in_one_line(error: BaseException) -> str:
    """`ValueError: the message`, without pydantic's frame."""
    kind, text = type(error).__name__, str(error)
    if kind == "ValidationError":
        lines = [line.strip() for line in text.splitlines()]
        # "1 validation error for X", the field if any, the message with [type=..., input_value=...]
        told = next((line for line in lines[1:] if "[type=" in line), text)
        field = lines[1] if len(lines) > 2 and "[type=" not in lines[1] else ""
        text = (f"{field}: " if field else "") + told.partition(" [type=")[0]
        for said, meant in (("Value error, ", "ValueError"), ("Assertion failed, ", "AssertionError")):
            if said in text:
                kind, text = meant, text.replace(said, "")
    text = re.sub(r" with AttentionSelectorConfig\(.*?\)(?=[.:,]| is)", "", text)
    return f"{kind}: {' '.join(text.split())}"[:LONGEST_ERROR]


def fitting(function: Callable[..., Any], **given: Any) -> Any:
    """Call `function` with those of the arguments that this release takes; for a class, also its base classes."""
    makers = [base.__init__ for base in inspect.getmro(function)] if inspect.isclass(function) else [function]
    taken = {
        name
        for maker in makers
        if maker is not object.__init__
        for name in inspect.signature(maker).parameters
    }
    return function(**{name: value for name, value in given.items() if name in taken})


def name_of(backend: Any) -> str:
    """The name that --attention-backend takes; a class's own name can be another backend's."""
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    here = f"{backend.__module__}.{backend.__qualname__}"
    return next((one.name for one in AttentionBackendEnum if one.value == here), str(backend.get_name()))


def again(name: str) -> None:
    """Run a module once more, for what it reads of the environment while it is imported."""
    known = importlib.util.find_spec(name)
    assert known is not None
    assert known.origin is not None
    spec = importlib.util.spec_from_file_location(f"{name}_again", known.origin)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def folder_of(config: Mapping[str, Any], root: Path) -> Path:
    """A folder with this config.json."""
    text = json.dumps(config, sort_keys=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def engine_config(folder: Path, args: list[str]) -> Any:
    """vLLM's configuration for these arguments, as `vllm serve` makes it."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    with at("arguments"):
        parser = make_arg_parser()(FlexibleArgumentParser())

        def error(message: str) -> None:
            raise ValueError(message)

        parser.error = error
        parsed = parser.parse_args(["--model", str(folder), "--skip-tokenizer-init", *args])
        engine = AsyncEngineArgs.from_cli_args(parsed)
    with at("config"):
        return engine.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)


@functools.cache
def make_arg_parser() -> Callable[..., Any]:
    """The function that declares the flags of `vllm serve`."""
    for module in (f"vllm.entrypoints.{place}.cli_args" for place in ("common", "launchers", "openai")):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).make_arg_parser  # type: ignore[no-any-return]
    raise ImportError("no make_arg_parser in this release")


class Anything:
    """A layer, tensor or module that is only held, never called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Anything()


def as_first_rank(config: Any) -> None:
    """Let vLLM's code see the ranks of this plan, as rank 0 of each group."""
    from vllm.distributed import parallel_state

    parallel = config.parallel_config
    sizes = {
        "_TP": parallel.tensor_parallel_size,
        "_PP": parallel.pipeline_parallel_size,
        "_DP": parallel.data_parallel_size,
        "_DCP": getattr(parallel, "decode_context_parallel_size", 1),
        "_PCP": getattr(parallel, "prefill_context_parallel_size", 1),
        "_EP": parallel.tensor_parallel_size * parallel.data_parallel_size,
        "_WORLD": parallel.world_size,
    }
    for name, size in sizes.items():
        if hasattr(parallel_state, name):
            group = types.SimpleNamespace(
                world_size=size, rank_in_group=0, rank=0, local_rank=0, is_first_rank=True,
                is_last_rank=size == 1, device_group=None, cpu_group=None, device_communicator=None,
                ranks=list(range(size)),
            )  # fmt: skip
            setattr(parallel_state, name, group)


class Question:
    """One question on its way through vLLM's code; what is learnt is in `answer`."""

    def __init__(self, raw: Mapping[str, Any], root: Path) -> None:
        self.raw, self.root = raw, root
        self.answer: dict[str, Any] = {}
        self.unseen: dict[str, str] = {}

    def ask(self) -> None:
        """Go as deep as this machine can.

        Raises:
            Refused: vLLM refuses.
        """
        if not VISIBLE.isdisjoint(self.raw["env"]):
            with at("import"):
                again("vllm.platforms.rocm")
        config = self.config()
        self.read(config)
        if self.seen("rank", lambda: as_first_rank(config)):
            self.attention(config)
        self.connector(config)

    def config(self) -> Any:
        """vLLM's configuration. If only the checkpoint's own code declares the model's type, a plain config stands for it.

        Raises:
            Refused: vLLM refuses.
        """
        given, args = self.raw["config"], list(self.raw["args"])
        folder = folder_of(given, self.root)
        try:
            return engine_config(folder, args)
        except ImportError as error:
            if "does not recognize" not in str(error):
                raise
        from transformers import AutoConfig, PretrainedConfig

        name = str(given["model_type"])
        AutoConfig.register(name, type("Plain", (PretrainedConfig,), {"model_type": name}))
        self.unseen["config class"] = "the checkpoint's own code, in place of which a plain config was read"
        return engine_config(folder, args)

    def seen(self, part: str, look: Callable[[], Any]) -> bool:
        """Run something of our own; a failure there says nothing about vLLM, and is listed."""
        try:
            look()
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001
            self.unseen[part] = in_one_line(error)[:120]
            return False
        return True

    def part(self, name: str, look: Callable[[], Any]) -> None:
        """Ask one more thing; an error of ours is listed, any other is a refusal.

        Raises:
            Refused: vLLM refuses.
        """
        try:
            with at(name):
                look()
        except OURS as error:
            self.unseen[name] = in_one_line(error)[:120]

    def read(self, config: Any) -> None:
        """What the configuration says."""
        cache, compilation, scheduler = (
            config.cache_config,
            config.compilation_config,
            config.scheduler_config,
        )
        mode = compilation.cudagraph_mode
        self.answer |= {
            "block_size": cache.block_size,
            "kv_cache_dtype": cache.cache_dtype,
            "prefix_caching": cache.enable_prefix_caching,
            "memory": cache.gpu_memory_utilization,
            "graph_mode": getattr(mode, "name", None) or (str(mode) if mode is not None else None),
            "max_captured": compilation.max_cudagraph_capture_size,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_model_len": config.model_config.max_model_len,
            "quantization": config.model_config.quantization,
        }
        if hasattr(type(config), "use_v2_model_runner"):
            self.seen("runner", lambda: self.runner(config))

    def runner(self, config: Any) -> None:
        """Which model runner vLLM would use."""
        from vllm.triton_utils import HAS_TRITON

        if HAS_TRITON:
            self.answer["runner"] = "v2" if config.use_v2_model_runner else "v1"
        else:
            self.unseen["runner"] = "Triton can't be imported"

    def attention(self, config: Any) -> None:
        """The backend that vLLM's selector chooses, one layer of it, and its KV block."""
        from vllm.config import set_current_vllm_config
        from vllm.v1.attention.selector import get_attn_backend

        model = config.model_config
        text = model.hf_text_config
        own = next((name for name in OWN_ATTENTION if str(text.model_type).startswith(name)), None)
        if own is not None:
            self.unseen["attention"] = "the model's class chooses its own attention"
            self.seen("own attention", lambda: self.own_attention(config, OWN_ATTENTION[own]))
            return
        cache = config.cache_config
        mla = bool(model.use_mla)
        sparse = mla and hasattr(text, "index_topk")
        heads, kv_heads = (
            model.get_num_attention_heads(config.parallel_config),
            model.get_num_kv_heads(config.parallel_config),
        )
        head_size = model.get_head_size()
        with set_current_vllm_config(config):
            with at("attention"):
                backend = fitting(
                    get_attn_backend.__wrapped__
                    if hasattr(get_attn_backend, "__wrapped__")
                    else get_attn_backend,
                    head_size=head_size,
                    dtype=model.dtype,
                    kv_cache_dtype=cache.cache_dtype,
                    block_size=cache.block_size if self.block_given() else self.block_default(cache),
                    use_mla=mla,
                    has_sink=text.model_type == "gpt_oss",
                    use_sparse=sparse,
                    num_heads=heads,
                    attn_type="encoder_decoder" if getattr(model, "is_encoder_decoder", False) else "decoder",
                    has_sliding_window=bool(getattr(text, "sliding_window", None)) and not mla,
                )
            self.answer["backend"] = name_of(backend)
            layer = self.layer(
                config, backend, mla=mla, sparse=sparse, heads=heads, kv_heads=kv_heads, head_size=head_size
            )
            if layer is not None:
                self.with_layer(config, layer)

    def own_attention(self, config: Any, name: str) -> None:
        """The KV block that the model's own backend takes."""
        from vllm.config import set_current_vllm_config
        from vllm.v1.attention.backends.registry import AttentionBackendEnum

        if not name:
            return
        if name.isupper() or "." not in name:
            backend = AttentionBackendEnum[name].get_class()
        else:
            module, _, kind = name.rpartition(".")
            backend = getattr(importlib.import_module(module), kind)
        self.answer["backend"] = name_of(backend)
        with set_current_vllm_config(config):
            self.with_layer(config, layer_of(backend, None, mla=True, heads=1, kv_heads=1, head_size=512))

    def block_given(self) -> bool:
        """True if the plan has a block size."""
        return any(word.partition("=")[0] == "--block-size" for word in self.raw["args"])

    @staticmethod
    def block_default(cache: Any) -> int | None:
        """What vLLM hands to the selector where no block size was given: its default, or None."""
        return cache.block_size  # type: ignore[no-any-return]

    def layer(
        self, config: Any, backend: Any, *, mla: bool, sparse: bool, heads: int, kv_heads: int, head_size: int
    ) -> Any:
        """One attention layer of the model, with the real implementation class; None if it can't be made here."""
        import torch

        text, cache = config.model_config.hf_text_config, config.cache_config
        given: dict[str, Any] = {
            "num_heads": heads, "head_size": head_size, "scale": 1.0, "num_kv_heads": kv_heads, "alibi_slopes": None,
            "sliding_window": None, "kv_cache_dtype": cache.cache_dtype, "logits_soft_cap": None,
            "attn_type": "decoder", "kv_sharing_target_layer_name": None,
        }  # fmt: skip
        if text.model_type == "gpt_oss":
            given["sinks"] = torch.zeros(heads)
        if mla:
            nope, rope = text.qk_nope_head_dim, text.qk_rope_head_dim
            indexer = types.SimpleNamespace(
                topk_indices_buffer=torch.zeros(1, 1, dtype=torch.int32),
                topk_tokens=getattr(text, "index_topk", 0),
            )
            given |= {
                "q_lora_rank": text.q_lora_rank, "kv_lora_rank": text.kv_lora_rank, "qk_nope_head_dim": nope,
                "qk_rope_head_dim": rope, "qk_head_dim": nope + rope, "v_head_dim": text.v_head_dim,
                "kv_b_proj": Anything(), "indexer": indexer if sparse else None,
                "topk_indices_buffer": indexer.topk_indices_buffer if sparse else None,
            }  # fmt: skip
        try:
            with contextlib.suppress(ImportError):
                from vllm.v1.worker.workspace import init_workspace_manager

                init_workspace_manager(torch.device("cpu"))
            held = fitting(backend.get_impl_cls(), **given)
        except (NotImplementedError, ValueError, AssertionError) as error:
            if not str(error):
                self.unseen["layer"] = in_one_line(error)[:120]
                return None
            raise Refused("layer", in_one_line(error)) from error
        except Exception as error:  # noqa: BLE001
            if os.environ.get("ORACLE_DEBUG"):
                traceback.print_exc()
            self.unseen["layer"] = in_one_line(error)[:120]
            return None
        return layer_of(backend, held, mla=mla, heads=heads, kv_heads=kv_heads, head_size=head_size)

    def with_layer(self, config: Any, layer: Any) -> None:
        """What vLLM asks of its layers after it made them: block size, context parallelism, graphs."""
        from vllm.platforms import current_platform
        from vllm.v1.worker.cp_utils import check_attention_cp_compatibility

        config.compilation_config.static_forward_context[NAME] = layer
        if callable(getattr(type(current_platform), "update_block_size_for_backend", None)):
            self.part("block_size", lambda: current_platform.update_block_size_for_backend(config))
            self.answer["block_size"] = config.cache_config.block_size
        self.part("kernel_block", lambda: self.kernel_block(config, layer))
        if layer.impl is not None:
            self.part("context parallel", lambda: check_attention_cp_compatibility(config))
        self.seen("graphs", lambda: self.graphs(config, layer))
        backend = layer.get_attn_backend()

        def layout() -> None:
            order = getattr(backend, "get_required_kv_cache_layout", None)
            self.answer["kv_layout"] = order() if order else None

        self.seen("kv_layout", layout)

    def kernel_block(self, config: Any, layer: Any) -> None:
        """Whether a kernel block fits the manager's block, where this release checks that."""
        group = types.SimpleNamespace(
            backend=layer.get_attn_backend(), kv_cache_spec=layer.get_kv_cache_spec(config)
        )
        size = config.cache_config.block_size
        try:
            from vllm.v1.worker.utils import select_common_block_size as select
        except ImportError:
            from vllm.v1.worker.gpu_model_runner import GPUModelRunner

            select = GPUModelRunner.select_common_block_size
        taken = list(inspect.signature(select).parameters)
        second = [group.backend] if "backends" in taken[1] else [group]
        self.answer["kernel_block"] = select(size, second)

    def graphs(self, config: Any, layer: Any) -> None:
        """How much of a step the backend lets a graph hold."""
        builder = layer.get_attn_backend().get_builder_cls()
        if hasattr(builder, "get_cudagraph_support"):
            support = builder.get_cudagraph_support(config, layer.get_kv_cache_spec(config))
        else:
            support = getattr(builder, "_cudagraph_support", None) or builder.cudagraph_support
        self.answer["graph_support"] = support.name

    def connector(self, config: Any) -> None:
        """The KV connector of the scheduler, if the plan has one."""
        transfer = config.kv_transfer_config
        if transfer is None:
            return
        self.answer["connector"] = transfer.kv_connector
        if "LMCache" in str(transfer.kv_connector):
            self.unseen["connector"] = "LMCache is not installed"
            return
        from vllm.config import set_current_vllm_config
        from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
        from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

        layers = config.compilation_config.static_forward_context
        spec = layers[NAME].get_kv_cache_spec(config) if NAME in layers else None
        if spec is None:
            self.unseen["connector"] = "no attention layer could be made"
            return
        kv_cache = kv_cache_config(spec)
        create = functools.partial(
            fitting, KVConnectorFactory.create_connector,
            config=config, role=KVConnectorRole.SCHEDULER, kv_cache_config=kv_cache,
        )  # fmt: skip
        with set_current_vllm_config(config):
            self.part("connector", create)


NAME = "model.layers.0.self_attn.attn"


def layer_of(backend: Any, held: Any, *, mla: bool, heads: int, kv_heads: int, head_size: int) -> Any:
    """A layer with this backend and implementation, as vLLM looks at its layers."""
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

    class Layer(AttentionLayerBase):  # type: ignore[misc]
        def __init__(self) -> None:
            self.impl = held
            self.head_size, self.num_kv_heads, self.num_heads = head_size, kv_heads, heads
            self.attn_backend, self.layer_name = backend, NAME

        def get_attn_backend(self) -> Any:
            return backend

        def get_kv_cache_spec(self, vllm_config: Any) -> Any:
            return kv_spec(vllm_config, mla=mla, kv_heads=kv_heads, head_size=head_size)

    return Layer()


def kv_spec(config: Any, *, mla: bool, kv_heads: int, head_size: int) -> Any:
    """The KV cache of one attention layer."""
    from vllm.v1 import kv_cache_interface as interface

    kind = (
        interface.MLAAttentionSpec
        if mla and hasattr(interface, "MLAAttentionSpec")
        else interface.FullAttentionSpec
    )
    dtype = config.model_config.dtype
    with contextlib.suppress(Exception):
        from vllm.utils.torch_utils import kv_cache_dtype_str_to_dtype

        dtype = kv_cache_dtype_str_to_dtype(config.cache_config.cache_dtype, config.model_config)
    return fitting(
        kind,
        block_size=config.cache_config.block_size,
        num_kv_heads=1 if mla else kv_heads,
        head_size=head_size,
        dtype=dtype,
        cache_dtype_str=config.cache_config.cache_dtype,
    )


def kv_cache_config(spec: Any) -> Any:
    """1,000 blocks of one layer's KV cache."""
    from vllm.v1 import kv_cache_interface as interface

    blocks, page = 1000, spec.page_size_bytes
    tensor = fitting(
        interface.KVCacheTensor,
        size=blocks * page, shared_by=[NAME], layers=[NAME], layer_stride=blocks * page, block_stride=page,
    )  # fmt: skip
    return interface.KVCacheConfig(
        num_blocks=blocks,
        kv_cache_tensors=[tensor],
        kv_cache_groups=[interface.KVCacheGroupSpec([NAME], spec)],
    )


def answered(raw: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The answer to one question. In a process of its own: it changes the environment and vLLM's state."""
    os.environ.update({name: str(value) for name, value in raw["env"].items()})
    if not IN_DEFAULTS.isdisjoint(raw["env"]):
        from vllm.engine import arg_utils

        arg_utils._compute_kwargs.cache_clear()
    began = time.perf_counter()
    question = Question(raw, root)
    refused_at = error = None
    with contextlib.suppress(ImportError):
        from vllm._aiter_ops import rocm_aiter_ops

        rocm_aiter_ops.refresh_env_variables()
    try:
        question.ask()
    except Refused as refusal:
        refused_at, error = refusal.where, refusal.error
    except Exception as failure:  # noqa: BLE001
        question.unseen["all"] = in_one_line(failure)
    told = {
        "refused_at": refused_at,
        "error": error.replace(str(root), "") if error else None,
        **question.answer,
        "unseen": question.unseen,
    }
    return {
        "id": raw["id"],
        "accepted": None if "all" in question.unseen else refused_at is None,
        **{name: value for name, value in told.items() if value not in (None, {})},
        "seconds": round(time.perf_counter() - began, 1),
    }


def in_child(raw: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The answer, from a fork of this process; a crash or a question that takes too long is an answer that says so."""
    known = set(SHARED.glob("vllm_offload_*"))
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            with contextlib.redirect_stdout(sys.stderr):
                text = json.dumps(answered(raw, root))
            os.write(told.fileno(), text.encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for left in set(SHARED.glob("vllm_offload_*")) - known:
            left.unlink(missing_ok=True)
        told.seek(0)
        text = told.read().decode()
    if status or not text:
        why = (
            f"ended by signal {os.WTERMSIG(status)}"
            if os.WIFSIGNALED(status)
            else f"exit code {os.waitstatus_to_exitcode(status)}"
        )
        return {"id": raw["id"], "accepted": None, "unseen": {"all": why}}
    answer: dict[str, Any] = json.loads(text)
    return answer


def warm_up() -> None:
    """Import what the questions need, once."""
    import vllm.engine.arg_utils
    import vllm.v1.attention.selector  # noqa: F401
    from vllm.model_executor.models import registry
    from vllm.platforms import current_platform
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    make_arg_parser()(FlexibleArgumentParser())
    if "ORACLE_GFX" in os.environ and not current_platform.is_rocm():
        raise SystemExit(f"vLLM chose the platform {current_platform.device_name}, not ROCm")
    registry.run_in_subprocess = registry._run_in_subprocess = lambda function: function()
    for module in (
        "vllm._aiter_ops",
        "vllm.model_executor.models.deepseek_v2",
        "vllm.model_executor.models.llama",
        "vllm.model_executor.models.qwen3_moe",
        "vllm.v1.worker.utils",
        "vllm.distributed.kv_transfer.kv_connector.factory",
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector",
    ):
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    from vllm.model_executor.layers import quantization
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    for method in quantization.QUANTIZATION_METHODS:
        with contextlib.suppress(Exception):
            quantization.get_quantization_config(method)
    for backend in AttentionBackendEnum:
        with contextlib.suppress(Exception):
            backend.get_class()
    gc.collect()
    gc.freeze()  # children share the memory


def main() -> None:
    """Answer each question of stdin."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM and what it imports print
    began = time.perf_counter()
    warm_up()
    print(f"imports: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="oracle-") as root:
        for line in sys.stdin:
            if line.strip():
                print(json.dumps(in_child(json.loads(line), Path(root))), file=out, flush=True)


if __name__ == "__main__":
    main()

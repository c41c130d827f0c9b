"""Makes vLLM choose its own ROCm platform on a machine without a GPU. Python imports this module by itself at start.

On PYTHONPATH with the `amdsmi` next to it, it also applies to the subprocess in which vLLM inspects a model class.
What it stands in for is the outermost edge only: the driver's answers (device count, architecture, memory), the
`aiter` and `flash_attn` packages (present, but none of their kernels can run) and Triton's AMD driver (active).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

GFX = os.environ.get("ORACLE_GFX", "gfx942")
GPUS = 8
COMPUTE_UNITS = {"gfx942": 304, "gfx950": 256}
HIP = "7.2"
HOST_MEMORY = 2 << 40


class KernelNotHere(RuntimeError):
    """A kernel was called on a machine that can't run it."""


class _Absent:
    """A function or enum of `aiter`: it has every name, and fails when it is called."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")

    def __call__(self, *_: object, **__: object) -> None:
        raise KernelNotHere(f"{self.__name__} can't run here")


class _Aiter(types.ModuleType):
    """A module of `aiter`."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "dtypes":
            import torch

            fp8 = torch.float8_e4m3fnuz if GFX == "gfx942" else torch.float8_e4m3fn
            return types.SimpleNamespace(fp8=fp8, bf16=torch.bfloat16, fp16=torch.float16, fp32=torch.float32)
        return _Absent(f"{self.__name__}.{name}")


class _AiterFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] in {"aiter", "flash_attn"}:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> _Aiter:
        return _Aiter(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run: names are made when they are asked for."""


class _After(importlib.abc.MetaPathFinder):
    """Calls `change` on the module `name` once it is imported."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self.name, self.change = name, change

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            self.change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _device(*_: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        name="AMD Instinct",
        gcnArchName=f"{GFX}:sramecc+:xnack-",
        multi_processor_count=COMPUTE_UNITS[GFX],
        warp_size=64,
        major=9,
        minor=4 if GFX == "gfx942" else 5,
        total_memory=int(os.environ["ORACLE_MEMORY"]),
    )


def _with_gpus(torch: Any) -> None:
    torch.version.hip = HIP
    torch.cuda.device_count = lambda: GPUS
    torch.cuda.get_device_properties = _device
    torch.cuda.get_device_capability = lambda *_: (_device().major, _device().minor)
    torch.cuda.get_device_name = lambda *_: _device().name
    torch.cuda.current_device = lambda: 0
    if hasattr(torch, "accelerator"):
        torch.accelerator.device_count = lambda: GPUS
        torch.accelerator.empty_cache = lambda: None
        torch.accelerator.current_device_index = lambda: 0


def _rocm_only(platforms: Any) -> None:
    import torch

    _with_gpus(torch)
    platforms.builtin_platform_plugins = {"rocm": platforms.rocm_platform_plugin}
    platforms.load_plugins_by_group = lambda group: {}


def _with_host_memory(psutil: Any) -> None:
    """The node's host memory, which vLLM compares with swap and offload sizes."""
    real = psutil.virtual_memory

    def virtual_memory() -> Any:
        return real()._replace(total=HOST_MEMORY, available=HOST_MEMORY)

    psutil.virtual_memory = virtual_memory


def _stateless_count(rocm: Any) -> None:
    for name in ("_rocm_device_count_stateless", "cuda_device_count_stateless"):
        if hasattr(rocm, name):
            setattr(rocm, name, lambda *_: GPUS)


def _only_amd(backends: Any) -> None:
    for name, backend in backends.backends.items():
        if backend.driver is not None:
            backend.driver.is_active = staticmethod(lambda here=name == "amd": here)


def _without_cuda_part(extension: Any) -> None:
    """Declare two operators of torchvision's CUDA build, which doesn't load beside a CPU build of PyTorch."""
    if extension._has_ops():
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    extension.declared_by_the_oracle = library  # it lives as long as the module


sys.meta_path.insert(0, _After("torchvision.extension", _without_cuda_part))
if "ORACLE_GFX" in os.environ:
    sys.meta_path.insert(0, _AiterFinder())
    sys.meta_path.insert(0, _After("vllm.platforms", _rocm_only))
    sys.meta_path.insert(0, _After("vllm.platforms.rocm", _stateless_count))
    sys.meta_path.insert(0, _After("triton.backends", _only_amd))
    sys.meta_path.insert(0, _After("psutil", _with_host_memory))

"""The environment in which one release of vLLM is asked: its Python files, and what they import, on the CPU.

Each release has a folder of its own (about 2.5 GB) under `.oracle`, or under $ROCBENCH_ORACLE. Nothing in it is run on
a GPU: PyTorch is the CPU build, and packages that only CUDA builds need are left out.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
TORCH = "torch==2.13.0+cpu"
WITHOUT_DEPENDENCIES = ("triton==3.7.1", "torchvision==0.28.0")
"""torchvision as PyTorch 2.13 needs it: its own dependency would bring another build of PyTorch."""
ALONE = ("xgrammar", "model-hosting-container-standards", "mcp", "apache-tvm-ffi")
"""Requirements of vLLM whose own dependencies are large or conflict, and that are only imported."""
LEFT_OUT = (
    "torch",
    "torchaudio",
    "torchvision",
    "torchcodec",
    "pynvvideocodec",
    "flashinfer",
    "tilelang",
    "nvidia-",
    "nvtx",
    "quack-kernels",
    "fastsafetensors",
    "instanttensor",
    "tokenspeed-mla",
    "humming-kernels",
    "ray",
    "opencv",
    "grpcio",
)
"""Requirements of the CUDA build, and others that the configuration code doesn't import."""
MEMORY = {"gfx942": 274_861_129_728, "gfx950": 309_220_868_096}
"""Bytes of HBM of an MI325X and an MI355X."""
KEPT = (".py", ".json", "METADATA")


class EnvironmentFault(Exception):
    """The environment can't be made."""


@dataclass(frozen=True, slots=True)
class Release:
    """The files of one release on this machine."""

    vllm: str

    @property
    def folder(self) -> Path:
        """Everything of this release."""
        return Path(os.environ.get("ROCBENCH_ORACLE") or ROOT / ".oracle") / self.vllm

    @property
    def source(self) -> Path:
        """The folder that holds `vllm/`."""
        return self.folder / "source"

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "bin" / "python"

    def fetch(self) -> None:
        """Download the published wheel and unpack its Python files.

        Raises:
            EnvironmentFault: there is no such wheel.
        """
        if (self.source / "vllm" / "envs.py").exists():
            return
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as downloads:
            _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", downloads, f"vllm=={self.vllm}")
            with zipfile.ZipFile(next(Path(downloads).glob("vllm-*.whl"))) as wheel:
                for name in wheel.namelist():
                    if name.startswith(("vllm/", "vllm-")) and name.endswith(KEPT):
                        wheel.extract(name, self.source)

    def prepare(self) -> None:
        """Make the environment, unless it is complete.

        Raises:
            EnvironmentFault: pip can't install what vLLM imports.
        """
        done = self.folder / "ready"
        if done.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fetch()
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        needed = self.folder / "requirements.txt"
        imported, alone = self.requirements()
        needed.write_text("".join(f"{line}\n" for line in (TORCH, *imported)), encoding="utf-8")
        _pip("--python", str(self.python), "install", "--no-compile", "-r", str(needed))
        _pip(
            "--python",
            str(self.python),
            "install",
            "--no-compile",
            "--no-deps",
            *WITHOUT_DEPENDENCIES,
            *alone,
        )
        done.touch()

    def requirements(self) -> tuple[list[str], list[str]]:
        """What this release asks for, less LEFT_OUT: with dependencies, and ALONE."""
        text = next(self.source.glob("vllm-*/METADATA")).read_text(encoding="utf-8")
        lines = [
            line.removeprefix("Requires-Dist: ")
            for line in text.splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
        kept = [line for line in lines if not line.lower().startswith(LEFT_OUT)]
        alone = [line for line in kept if line.lower().startswith(ALONE)]
        return [line for line in kept if line not in alone], [
            re.sub(r"\[.*?\]|;.*|\s", "", line) for line in alone
        ]

    def files(self) -> dict[str, int | str]:
        """Number and hash of vLLM's Python files: names and contents, in order."""
        paths = sorted((self.source / "vllm").rglob("*.py"))
        total = hashlib.sha256()
        for path in paths:
            total.update(f"{path.relative_to(self.source).as_posix()}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return {"count": len(paths), "sha256": total.hexdigest()}

    def asker(self, gfx: str, log: int) -> subprocess.Popen[str]:
        """Start `ask.py` as if on 8 GPUs of this architecture; its messages go to the file descriptor `log`."""
        cache = self.folder / "cache"
        cache.mkdir(exist_ok=True)
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ},
            "ORACLE_GFX": gfx,
            "ORACLE_MEMORY": str(MEMORY[gfx]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(cache),
            "VLLM_CACHE_ROOT": str(cache),
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "PYTHONPATH": f"{HERE / 'stand_in'}:{self.source}",
        }
        return subprocess.Popen(
            [self.python, HERE / "ask.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=env,
        )


def made_with() -> str:
    """The hash of the code that asks."""
    total = hashlib.sha256()
    for path in (HERE / "ask.py", *sorted((HERE / "stand_in").rglob("*.py"))):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--quiet", "--no-input"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EnvironmentFault(f"pip {words[-1]}: {said[-1] if said else done.stderr[-300:]}")

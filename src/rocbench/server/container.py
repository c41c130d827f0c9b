"""A server in a docker or podman container, with the devices and mounts of ROCm, and persistent caches."""

from __future__ import annotations

import grp
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rocbench import processes
from rocbench.errors import EnvironmentFault, InputError, Interrupted, ServerFault
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server import orphans, runtime
from rocbench.server.command import launch_environment, with_address
from rocbench.server.launched import ChildServer
from rocbench.server.port import check_port, choose_port
from rocbench.server.preflight import hf_home, hub_cache
from rocbench.server.spec import ServerSpec, StopReport
from rocbench.server.stop import stop_tree

STOP_MARGIN_S = 15.0
"""Seconds that `docker stop` gets on top of the grace: 60 s in all with the default grace of 45 s."""
PULL_S = 2 * 3600.0
"""Seconds to pull an image: 30 GB at 4 MB/s."""

CACHES = {
    "VLLM_CACHE_ROOT": "/cache/vllm",  # torch.compile
    "TRITON_CACHE_DIR": "/cache/triton",
    "AITER_JIT_DIR": "/cache/aiter",
}
"""Variable to folder inside the container, for files compiled once and reused."""
HF_HOME, HF_HUB = "/cache/huggingface", "/cache/hub"

# With AITER_JIT_DIR set, AITER imports kernels from there only (aiter/jit/core.py, get_module_custom_op), so
# the kernels of the image are copied in once; else each would be built again, for minutes.
_SEED_AND_RUN = (
    'd=$(python3 -c "import importlib.util as u;'
    "print(u.find_spec('aiter').submodule_search_locations[0])\" 2>/dev/null)"
    ' && cp -n "$d"/jit/*.so "$AITER_JIT_DIR"/ 2>/dev/null; exec "$@"'
)


def run_argv(
    program: str,
    image: str,
    name: str,
    command: Sequence[str],
    *,
    port: int,
    env_names: Iterable[str],
    mounts: Mapping[str, str],
    devices: Sequence[str] = ("/dev/kfd", "/dev/dri"),
    groups: Sequence[str] = ("video", "render"),
) -> tuple[str, ...]:
    """The argv that runs a server's command in a container. Pure.

    Args:
        program: the container runtime.
        command: full argv inside the image, with its first word: the image's entrypoint is not used.
        port: published on 127.0.0.1 only.
        env_names: variables passed by name; the client's environment has the values, so argv has no secret.
        mounts: host folder to container folder.
        groups: groups that own the devices, by number if the image may lack the name.
    """
    words = [program, "run", "--name", name]
    words += [f"--device={device}" for device in devices]
    words += [f"--group-add={group}" for group in groups]
    words += [
        "--ipc=host",
        "--ulimit=memlock=-1:-1",
        "--ulimit=stack=67108864:67108864",
        "--ulimit=nofile=65536:65536",
    ]
    words += ["--security-opt=seccomp=unconfined", "--cap-add=SYS_PTRACE"]
    words += [f"--volume={host}:{inside}" for host, inside in mounts.items()]
    words += [f"--env={variable}" for variable in sorted(env_names)]
    words += [f"--publish=127.0.0.1:{port}:{port}"]
    words += ["--entrypoint=sh", image, "-c", _SEED_AND_RUN, "sh"]
    return (*words, *command)


class ContainerServer(ChildServer):
    """One container. Its client, a child in the foreground, carries the log and the exit code."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", spec.folder.name)
        self.container = f"rocbench-{os.getpid()}-{secrets.token_hex(4)}-{slug}"  # unique on this machine

    @property
    def pid(self) -> int | None:
        """Host pid of the container's first process; None while it has none."""
        pid = runtime.call(self.spec.runtime, "inspect", "--format", "{{.State.Pid}}", self.container)
        return int(pid) if pid and pid.isdigit() and int(pid) > 0 else None

    def launch(self) -> None:
        """Finds (or pulls) the image, records its digest, and runs it.

        Raises:
            InputError: the spec names no image.
            EnvironmentFault: the runtime is missing or does not answer, or the image is not available.
            NodeFault: the port is taken.
        """
        image = self._image()
        self.spec.folder.mkdir(parents=True, exist_ok=True)
        self.image_digest = self._digest(image)
        port = choose_port(self.spec)
        check_port("127.0.0.1", port)
        command = with_address(self.spec.command, "0.0.0.0", port)  # noqa: S104
        env = launch_environment(self.spec, "127.0.0.1")
        mounts = self._mounts()
        # Folders of the host are mounted, under other names inside.
        env = {**_inherited(os.environ), **CACHES, **env, "HF_HOME": HF_HOME}
        env["HF_HUB_CACHE"] = HF_HUB if HF_HUB in mounts.values() else f"{HF_HOME}/hub"
        devices = [device for device in ("/dev/kfd", "/dev/dri") if Path(device).exists()]
        argv = run_argv(
            self.spec.runtime,
            image,
            self.container,
            command,
            port=port,
            env_names=env,
            mounts=mounts,
            devices=devices,
            groups=_device_groups(devices),
        )
        self.base_url = f"http://127.0.0.1:{port}"
        self._start(argv, env)

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """The container's processes, as the host sees them."""
        if self._log is not None:
            self._log.look()
        if self._tree is None:
            pid = self.pid
            if pid is None:
                return ()
            self._tree = ProcessTree(processes.identity_of(pid))
        return self._tree.refresh()

    def stop(self) -> StopReport:
        """Runs `stop` with its grace, then `rm -f`, and proves that the container and its processes are gone.

        Raises:
            ServerFault: the container still exists, or a process of it still runs.
        """
        if self._child is None:
            self._end_log()
            return StopReport("already_gone", 0.0)
        interrupt: KeyboardInterrupt | Interrupted | None = None
        try:
            try:
                self.processes()
                runtime.stop(self.spec.runtime, self.container, self.spec.grace_s + STOP_MARGIN_S)
            except (KeyboardInterrupt, Interrupted) as error:  # ends the grace
                interrupt = error
            runtime.remove(self.spec.runtime, self.container)
            client = ProcessTree(processes.identity_of(self._child.pid))
            report = stop_tree(client, grace_s=5.0, reap=self._child.poll)
            self._prove_gone()
            orphans.forget(self._child.pid)
        finally:
            self._end_log()
        if interrupt is not None:
            raise interrupt
        return StopReport("terminated", report.seconds, self._child.poll(), report.killed)

    def _image(self) -> str:
        if not self.spec.image:
            raise InputError(
                "a container needs an image",
                where="server.image",
                fix="name an image with its version or digest",
            )
        if shutil.which(self.spec.runtime) is None:
            raise EnvironmentFault(
                f"{self.spec.runtime} is not installed",
                fix=f"install {self.spec.runtime}, or use `server: {{kind: process}}`",
            )
        if "@sha256:" not in self.spec.image:
            self.notes.append(
                f"image {self.spec.image} is named by a tag, and a tag can be moved to another image; bench records the digest"
            )
        return self.spec.image

    def _digest(self, image: str) -> str | None:
        """The image's repository digest; pulls the image if it is missing."""
        digest_of = "{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}"
        inspect = ("image", "inspect", "--format", digest_of, image)
        digest = runtime.call(self.spec.runtime, *inspect)
        if digest is None:
            if runtime.call(self.spec.runtime, "version", "--format", "{{.Server.Version}}") is None:
                raise EnvironmentFault(
                    f"{self.spec.runtime} does not answer",
                    fix=f"start its service, and check that `{self.spec.runtime} version` works for this user",
                )
            pulled = self._pull(image)
            digest = runtime.call(self.spec.runtime, *inspect)
            if not pulled or digest is None:
                raise EnvironmentFault(
                    f"the image {image} is not available",
                    where=str(self.log_path),
                    fix="check its name and the registry",
                )
        return digest

    def _pull(self, image: str) -> bool:
        """Pulls an image; True if that succeeded. Raises EnvironmentFault after `PULL_S`."""
        log = self._open_log({})
        try:
            pulled = subprocess.run(
                [self.spec.runtime, "pull", image],
                stdout=log.fd,
                stderr=log.fd,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=PULL_S,
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentFault(
                f"the image {image} was not pulled within {PULL_S:.0f} s",
                where=str(self.log_path),
                fix=f"pull it beforehand: {self.spec.runtime} pull {image}",
            ) from None
        finally:
            self._end_log()
        return pulled.returncode == 0

    def _mounts(self) -> dict[str, str]:
        """Hugging Face cache, compile caches of this image, and the model if it is a path."""
        env = {**os.environ, **self.spec.env}
        key = re.sub(r"[^a-zA-Z0-9]+", "-", self.image_digest or "image")[-24:].strip("-")
        caches = Path.home() / ".cache" / "rocbench" / key
        mounts = {str(hf_home(env).absolute()): HF_HOME}
        if hub_cache(env) != hf_home(env) / "hub":
            mounts[str(hub_cache(env).absolute())] = HF_HUB
        mounts |= {str(caches / Path(inside).name): inside for inside in CACHES.values()}
        model = str(_with_blobs(Path(self.spec.model))) if self.spec.model.startswith("/") else None
        for folder in (*mounts, *([model] if model else ())):
            if ":" in folder:
                raise InputError(
                    f"{self.spec.runtime} cannot mount a folder with `:` in its path",
                    where=folder,
                    fix="rename the folder, or give a link to it",
                )
        for folder in mounts:
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)  # docker would create them as root
            except OSError as error:
                raise EnvironmentFault(
                    f"cannot create a folder to mount: {error.strerror}",
                    where=folder,
                    fix="create it, or set HF_HOME to another folder",
                ) from None
        if model:
            mounts[model] = model
        return mounts

    def _prove_gone(self) -> None:
        if runtime.exists(self.spec.runtime, self.container):
            raise ServerFault(
                f"the container {self.container} still exists after rm -f",
                fix=f"end it by hand: {self.spec.runtime} rm -f {self.container}",
            )
        if self._tree is not None:
            stop_tree(self._tree, grace_s=5.0)


def _with_blobs(model: Path) -> Path:
    """The folder to mount for a model: a snapshot of the hub's cache holds links into `blobs`, two folders up."""
    return model.parents[1] if model.parent.name == "snapshots" else model


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that a container gets from the launcher's environment: only those for access to the hub."""
    names = ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT")
    return {name: environ[name] for name in names if name in environ}


def _device_groups(devices: Sequence[str]) -> tuple[str, ...]:
    """Groups that own the devices, as numbers: the image may lack the names, or use them for other numbers."""
    nodes = Path("/dev/dri").glob("renderD*") if "/dev/dri" in devices else ()
    gids = {path.stat().st_gid for path in (*map(Path, devices), *nodes)}
    for name in ("video", "render"):
        with suppress(KeyError):
            gids.add(grp.getgrnam(name).gr_gid)
    return tuple(str(gid) for gid in sorted(gids - {0}))

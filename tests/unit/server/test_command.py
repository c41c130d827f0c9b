"""argv, environment and the line that can be pasted."""

import shlex
import subprocess
from pathlib import Path

import pytest

from rocbench.server.command import (
    flag_value,
    is_loopback,
    launch_environment,
    shell_line,
    with_address,
)
from rocbench.server.spec import ServerSpec


def spec(**changes) -> ServerSpec:
    """A server's spec."""
    return ServerSpec("process", "m", Path("s"), **changes)


def test_address_is_appended():
    """Host and port are appended; nothing else changes."""
    assert with_address(("vllm", "serve", "m"), "127.0.0.1", 8001) == (
        *("vllm", "serve", "m"),
        *("--host", "127.0.0.1", "--port", "8001"),
    )


@pytest.mark.parametrize("own", [("--port", "9000"), ("--port=9000",)])
def test_own_port_stays(own):
    """A port that the command already has is kept, in either form."""
    command = with_address(("vllm", "serve", "m", *own), "127.0.0.1", 8001)

    assert flag_value(command, "--port") == "9000"
    assert "8001" not in command


def test_last_flag_wins():
    """As in argparse, the last of two equal flags counts."""
    assert flag_value(["--port", "1", "--port=2"], "--port") == "2"
    assert flag_value(["--port"], "--port") is None


def test_development_mode_on_loopback_only():
    """Endpoints that reset caches are never opened to the network."""
    near = launch_environment(spec(), "127.0.0.1")
    far = launch_environment(spec(), "0.0.0.0")
    unwanted = launch_environment(spec(dev_mode=False), "127.0.0.1")

    assert near == {"VLLM_SERVER_DEV_MODE": "1"}
    assert far == unwanted == {}


def test_gpus_in_both_variables():
    """HIP and CUDA variables name the same devices: vLLM refuses to start if they differ."""
    env = launch_environment(spec(gpus=(2, 3)), "h")

    assert env == {"HIP_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3"}


def test_the_spec_wins():
    """The spec's variables override the launcher's."""
    env = launch_environment(spec(env={"VLLM_SERVER_DEV_MODE": "0"}, api_key="k-123456"), "::1")

    assert env == {"VLLM_SERVER_DEV_MODE": "0", "VLLM_API_KEY": "k-123456"}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("node7", False)],
)
def test_loopback(host, loopback):
    """Only addresses of this machine alone count as loopback."""
    assert is_loopback(host) is loopback


def test_line_can_be_pasted():
    """A shell gives the same argv and environment back, whatever characters they hold."""
    command = ["printf", "%s|", "a b", "it's", '{"x": [1, "$HOME"]}', "tab\there", "*"]
    env = {"VLLM_PLAIN": "1", "VLLM_ODD": 'a "quoted" $value'}

    line = shell_line(command, env)
    ran = subprocess.run(
        ["sh", "-c", f"{line}; printf '%s' \"$VLLM_ODD\""], capture_output=True, text=True, check=True
    )

    assert ran.stdout == "|".join(command[2:]) + "|"
    assert shlex.split(line)[:2] == ["VLLM_PLAIN=1", 'VLLM_ODD=a "quoted" $value']


def test_secrets_stand_by_name():
    """The pasted line takes secrets from its shell, and names the missing ones."""
    command = ["printf", "%s|", "hf_secret99", "redis://u:p4ss@h/0", "--api-key", "k3y"]
    env = {"HF_TOKEN": "hf_secret99", "MINE": "1", "VLLM_X": "2"}
    line = shell_line(command, env, ["hf_secret99"])
    given = {"SECRET_1": "one", "SECRET_2": "two", "SECRET_3": "three", "HF_TOKEN": "four", "MINE": ""}

    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=given, check=True)
    refused = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env={}, check=False)

    assert not [secret for secret in ("secret99", "p4ss", "k3y") if secret in line]
    assert ran.stdout == "one|redis://two@h/0|--api-key|three|"
    assert refused.returncode != 0
    assert "is not stored" in refused.stderr
    assert "set HF_TOKEN" in line
    assert "VLLM_X=2" in line

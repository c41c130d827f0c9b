"""Does any file end `bench` other than with its message? Mutated settings, config.json and run folders.

    python benchmarks/fuzz.py yaml --seeds 20000
    python benchmarks/fuzz.py config --seeds 2000
    python benchmarks/fuzz.py run --seeds 2000
    python benchmarks/fuzz.py yaml --seeds 100 --command-line

A seed decides the file it begins with and what is done to it, so that a case is repeated by `--first SEED --seeds 1`.
Each case must end within `LIMIT_S`, without another exception than those of `rocbench.errors`, with an exit code of
their table, and in memory that does not grow. Prints each that did not and how many ended how; ends with 1 if any did not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT_S = 5.0
"""CPU time of one case."""
START_S = 15.0
"""More of wall time: for a new process, which imports everything first, and on a machine that has other work."""
MEMORY = 1 << 30
"""Bytes that the process of all cases may have had at most."""
CODES = frozenset({0, 1, 2, 3, 4, 130})
"""Exit codes of docs/exit-codes.md that an input may end with: not that of a crash."""


@dataclass(frozen=True)
class Case:
    """What one seed makes."""

    seed: int
    made_of: str
    """File that it began as, and what was done to it."""
    commands: tuple[tuple[str, ...], ...]
    """Arguments of `bench`, one line each."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | str
    """Exit code, or the exception that nobody foresaw."""
    seconds: float
    told: str
    """The end of standard error, or the traceback."""

    @property
    def wrong(self) -> str:
        """Why it must not end like this; empty where it may."""
        if self.code not in CODES:
            return f"ended with {self.code}"
        if "Traceback (most recent call last)" in self.told:
            return "a traceback"
        return "took longer than its limit" if self.seconds > LIMIT_S + START_S else ""


class TookTooLong(BaseException):
    """A case that did not end in time; no handler of the program takes it for its own."""


@functools.cache
def bench() -> Any:
    """The command line; to build it takes four times as long as a plan."""
    from typer.main import get_command

    from rocbench import cli

    return get_command(cli.app)


def in_process(arguments: tuple[str, ...]) -> Ended:
    """Run a command in this process, as `rocbench.cli.main` does."""
    from rocbench import crash
    from rocbench.errors import BenchError

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong

    err = io.StringIO()
    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    begun = time.process_time()
    code: int | str
    try:
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S + START_S)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            code = bench().main(list(arguments), standalone_mode=False) or 0
    except BenchError as error:
        code = int(error.exit_code)
        err.write(error.text().encode().decode())  # as it must go to a terminal
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 whatever it is, it is the finding
        fault = crash.foreseen(error) or error
        code = getattr(fault, "exit_code", type(error).__name__)  # of click's own errors
        if code not in CODES:
            err.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    return Ended(code, time.process_time() - begun, err.getvalue()[-3000:])


def by_command_line(arguments: tuple[str, ...]) -> Ended:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "rocbench", *arguments]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=LIMIT_S + START_S
        )
    except subprocess.TimeoutExpired:
        return Ended("TookTooLong", time.monotonic() - begun, "")
    return Ended(done.returncode, time.monotonic() - begun, done.stderr[-3000:])


def run(
    cases: Iterator[Case], ends: Callable[[tuple[str, ...]], Ended], folder: Path, *, show: bool = False
) -> int:
    """Run all cases and tell those that ended wrongly; how many they were."""
    with contextlib.redirect_stdout(io.StringIO()):  # everything is imported before the first is timed
        bench().main(["plan", "quick"], standalone_mode=False)
    counts: Counter[str] = Counter()
    wrong: dict[str, list[str]] = {}
    slowest = 0.0
    for case in cases:
        for arguments in case.commands:
            ended = ends(arguments)
            counts[str(ended.code)] += 1
            slowest = max(slowest, ended.seconds)
            if show:
                print(f"{case.seed} {ended.code} {ended.seconds:.1f} s {ended.told}".rstrip())
            if ended.wrong:
                last = ended.told.strip().rsplit("\n", 1)[-1]
                told = f"seed {case.seed}: bench {' '.join(arguments)}: {ended.wrong}: {last}"
                wrong.setdefault(_kind(ended), []).append(f"{told}\n  {case.made_of}\n{ended.told}")
    for kind, found in wrong.items():
        print(f"--- {len(found)} x {kind}\n{found[0]}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    ways = ", ".join(f"{code}: {count}" for code, count in sorted(counts.items()))
    print(
        f"{sum(counts.values())} commands ended with {ways}; the slowest after {slowest:.2f} s; {peak >> 20} MiB"
    )
    if peak > MEMORY:
        print(f"more than {MEMORY >> 20} MiB in one process")
    print(f"wrong: {sum(map(len, wrong.values()))}; files of the last case in {folder}")
    return sum(map(len, wrong.values())) + (peak > MEMORY)


def _kind(ended: Ended) -> str:
    """What wrong ends have in common: the exception and the last line of ours that raised it."""
    ours = [line.strip() for line in ended.told.splitlines() if "rocbench/" in line]
    return f"{ended.wrong} {ours[-1] if ours else ''}"


# --- settings

NASTY = (
    "0", "-1", "1", "1e30", "1.0e+30", "1.0e+308", "1.0e+400", "-0.0", "1.0e-320", ".inf", "-.inf", ".nan", "9" * 19, "9" * 20, "9" * 400,
    "9" * 4301, "0x" + "f" * 40, "2147483648", "4294967296", "1000000000000", "0.5", "-0.5", "100%", "010", "0b", "1_0",
    "~", "null", "''", '""', "' '", "true", "false", "on", "off", "yes", "x", "auto", "[]", "{}", "[[]]", "[{}]", "[1, 2]", "[1, 1]", "[0]",
    "[-1]", "['']", "[~]", "[x]", "{a: 1}", "{a: {b: {c: []}}}", "{1: 2}", "{[1]: 2}", "{~: 1}", "{true: 1}", "[true]", "&x [*x]",
    "*x", "&x {<<: *x}", "!!bool x", "!!int x", "!!float x", "!!binary x", "!!set {a}", "!!timestamp x", "!!python/name:os.system", "!x y",
    "2020-13-45", "2020-01-01", "12:30:45", "=", "<<", "|", ">", "|\n", "- -", "?", ": :", "@a", "`a`", "%a", '"\\ud800"', '"\\0"', '"\\e[31m"',
    '"\\x85"', "\ufeff", "\u2028", "\U0001f600", "é" * 120, "x" * 300, "x" * 5000, "a/b", "../x", "/", "/dev/zero", "/dev/null", ".", "..",
    "~/x", "$HOME", "${X}", "-x", "--help", "=cmd|x", "http://[", "http://a:99999", "http://u:p@h", "[" * 900 + "]" * 900, "{a: " * 70 + "1" + "}" * 70,
    "\t", "1:30", ">=0.1", "999999.1", "1.2.3.4.5", "0.14.1", "1" + ".1" * 500, "[" + "1, " * 3000 + "1]", "{" + ", ".join(f"k{n}: {n}" for n in range(500)) + "}",
)  # fmt: skip
"""What takes the place of a value."""
LAUGHS = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'x'] * 9)}]" for n in range(12))
LINES = (
    "a: *nothing",
    LAUGHS,
    "---",
    "...",
    "%YAML 9.9",
    "? [a]",
    "- x",
    "}",
    "\t",
    "\0",
    "<<: {a: 1}",
    "name: again",
    "'",
)
"""What is put between lines."""
SWEEP = """name: fuzz
vllm: 0.33.0
models: [{model}]
workloads: [{workload}]
hardware: {hardware}
concurrency: [1, 64]
"""
PLAIN = {"model": "qwen3-vl-235b", "workload": "short", "hardware": "mi325x"}
VALUE = re.compile(r"(?<=[:\[,{-] )[^\s,\[\]{}#][^,\[\]{}#\n]*")
"""A plain value or word in a line of YAML."""


def settings_files() -> list[tuple[str, str]]:
    """(kind, text) of every YAML file that is shipped, and of every block of one in docs and README."""
    configs = ROOT / "src" / "rocbench" / "configs"
    kinds = {
        "models": "model",
        "hardware": "hardware",
        "workloads": "workload",
        "sweeps": "sweep",
        "published": "table",
        "calibrations": "calibration",
    }
    found = [
        (kind, path.read_text(encoding="utf-8"))
        for folder, kind in kinds.items()
        for path in sorted((configs / folder).glob("*.yaml"))
    ]
    found += [
        ("sweep", path.read_text(encoding="utf-8"))
        for path in sorted(configs.glob("studies/*/sweeps/*.yaml"))
    ]
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        rules = [
            block for block in blocks if re.search(r"^(relative|limits|cannot_tell):", block, re.MULTILINE)
        ]
        found += [("rules", block) for block in rules]
        found += [
            ("sweep", block if "name:" in block else f"{SWEEP.format(**PLAIN)}{block}")
            for block in blocks
            if block not in rules
        ]
    return found


def mutated(text: str, rng: random.Random) -> str:
    """A text with one to three changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        match rng.choice(
            ("value",) * 4
            + ("number",) * 4
            + ("other",) * 3
            + ("line", "double", "drop", "indent", "join", "cut", "sign", "key")
        ):
            case "value":
                values = list(VALUE.finditer(text))
                if values:
                    place = rng.choice(values)
                    text = text[: place.start()] + rng.choice(NASTY) + text[place.end() :]
            case "number":
                numbers = list(re.finditer(r"(?<=[ \[])\d+(\.\d+)?", text))
                if numbers:
                    place = rng.choice(numbers)
                    scale = rng.choice((0, -1, 2, 10, 0.1, 1000, 1e-3, 1e6, 1e9, 1e12, 1e17))
                    scaled = float(place[0]) * scale
                    shown = str(int(scaled)) if scaled.is_integer() else repr(scaled)
                    text = text[: place.start()] + shown + text[place.end() :]
            case "other":
                values = list(VALUE.finditer(text))
                if values:
                    place = rng.choice(values)
                    text = text[: place.start()] + rng.choice(values)[0] + text[place.end() :]
            case "line":
                text = "\n".join([*lines[:at], rng.choice(LINES), *lines[at:]])
            case "double":
                text = "\n".join([*lines[: at + 1], *lines[at:]])
            case "drop":
                text = "\n".join(lines[:at] + lines[at + 1 :])
            case "indent":
                lines[at] = rng.choice((" ", "  ", "\t", "    ")) + lines[at]
                text = "\n".join(lines)
            case "join":
                text = "\n".join(lines[:at]) + " ".join(lines[at:])
            case "cut":
                text = text[: rng.randrange(len(text) + 1)]
            case "sign":
                place_ = rng.randrange(len(text) + 1)
                text = (
                    text[:place_]
                    + rng.choice("\0\t\"'[]{}:,&*!|>%@`-#?\\\x1b\u00a0\ufffe")
                    + text[place_ + 1 :]
                )
            case "key":
                lines[at] = re.sub(
                    r"\w+(?=:)",
                    rng.choice(("x", "name", "models", "config", "~", "1", "[1]")),
                    lines[at],
                    count=1,
                )
                text = "\n".join(lines)
    return text


def yaml_cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated file through the command that reads it, by way of a plan."""
    files = settings_files()
    for seed in range(first, first + seeds):
        rng = random.Random(seed)
        kind = rng.choice(
            (
                "sweep",
                "sweep",
                "sweep",
                "model",
                "model",
                "workload",
                "hardware",
                "table",
                "rules",
                "calibration",
            )
        )
        text = rng.choice([text for own, text in files if own == kind])
        path = folder / f"{kind}.yaml"
        path.write_bytes(encoded(mutated(text, rng), rng))
        sweep = path
        if kind in (*PLAIN, "calibration"):
            sweep = folder / "plan.yaml"
            sweep.write_text(SWEEP.format(**PLAIN | {kind: str(path)}), encoding="utf-8")
        command = {
            "table": ("ablate", "--table", str(path)),
            "rules": ("gate", str(folder / "none"), "--rules", str(path)),
            "calibration": ("predict", str(sweep), "--calibration", str(path)),
        }.get(kind, ("plan", str(sweep)))
        yield Case(seed, str(path), (command, ("explain", str(path))) if kind == "model" else (command,))


def encoded(text: str, rng: random.Random) -> bytes:
    """Mostly UTF-8; else another encoding, or bytes that are none."""
    way = rng.choice((*["utf-8"] * 30, "utf-8-sig", "utf-16", "utf-32", "latin-1", "bytes"))
    if way == "bytes":
        return text.encode(errors="surrogatepass") + b"\xff\xfe\xc0"
    return text.encode(way, errors="replace")


# --- config.json


def json_values(rng: random.Random) -> Any:
    """Something that takes the place of a value of a config."""
    return rng.choice(
        (
            None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 10**12, 10**19, 10**30, 10**400, 0.5, -0.5, 1e308, 1e-320, float("inf"), float("nan"),
            "", "x", "0", "7", "fp8", "\ud800", "\0", "x" * 3000, "M*E-", "LLLG", [], {}, [[]], [{}], [0], [1], [-1], [None], ["x"], [1.5], [10**12],
            ["full_attention"], ["sliding_attention", "x"], [1] * 61, [0] * 5000, {"a": 1}, {"x": {"y": [1]}}, {"quant_method": "fp8"},
            {"quant_method": ["x"]}, {"sparse_topk_blocks": "x"}, nested(70), nested(900),
        )
    )  # fmt: skip


def nested(depth: int) -> Any:
    """Lists in each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        found += [(here, key) for key in keys]
        waiting += [here[key] for key in keys]
    return found


FIELDS = (
    "num_hidden_layers num_attention_heads num_key_value_heads hidden_size vocab_size head_dim kv_lora_rank q_lora_rank qk_nope_head_dim "
    "v_head_dim n_routed_experts num_experts num_experts_per_tok moe_intermediate_size layer_types block_configs compress_ratios index_topk "
    "sliding_window sparse_attention_config linear_attn_config attn_config ffn_config vision_config text_config quantization_config "
    "architectures model_type hybrid_override_pattern moe_layer_freq first_k_dense_replace mlp_layer_types moe_layers full_attn_idxs "
    "attn_layer_period attention_chunk_size no_rope_layers sliding_window_pattern mamba_d_state linear_num_value_heads indexer_types "
    "index_topk_pattern index_topk_freq expert_layer_period decoder_sparse_step multi_query dtype torch_dtype rope_scaling _name_or_path"
).split()
"""Names that decide something in some model."""


def config_text(text: str, rng: random.Random) -> str:
    """A config.json with one to three changes, in its tree or in its text."""
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        container, key = rng.choice(places(data) or [({}, "x")])
        match rng.choice(("value", "value", "value", "add", "add", "drop", "move")):
            case "value":
                container[key] = json_values(rng)
            case "add":
                owner = container if isinstance(container, dict) else data
                owner[rng.choice(FIELDS)] = json_values(rng)
            case "drop":
                del container[key]
            case "move" if isinstance(container, dict):
                container[rng.choice(FIELDS)] = container.pop(key)
    if rng.random() < 0.02:
        data = json_values(rng)
    text = json.dumps(data, indent=rng.choice((None, None, 1)))
    if rng.random() < 0.1:
        text = re.sub("[0-9]{400,}", "9" * 4400, text)
    if rng.random() < 0.15:
        place = rng.randrange(len(text) + 1)
        text = (
            text[:place]
            + rng.choice(
                ("", "\0", '"', "[", "{", "}", ",", "1e999", "\\ud800", "NaN", '"a":1,"a":2,', "[" * 100_000)
            )
            + text[place + rng.randrange(3) :]
        )
    return text


def config_cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated config.json to a profile, and where that was written, to its flags and a plan."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "tests/fixtures/hf_configs").glob("*.json"))
    ]
    config, profile, sweep = folder / "config.json", folder / "made.yaml", folder / "plan.yaml"
    sweep.write_text(SWEEP.format(**PLAIN | {"model": str(profile)}), encoding="utf-8")
    for seed in range(first, first + seeds):
        rng = random.Random(seed)
        config.write_bytes(encoded(config_text(rng.choice(texts), rng), rng))
        profile.unlink(missing_ok=True)
        yield Case(seed, str(config), (("profiles", "new", str(config), "--out", str(profile)),))
        if profile.exists():
            yield Case(seed, str(profile), (("explain", str(profile)), ("plan", str(sweep))))


# --- run folders


def run_cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated run folder through some of the commands that read one."""
    sys.path.insert(0, str(ROOT / "tests"))
    import mutated_runs

    whole = mutated_runs.bases(folder / "whole")
    with mutated_runs.without_measuring():
        for seed in range(first, first + seeds):
            yield Case(seed, *mutated_runs.case(whole, folder, seed))


def modes() -> dict[str, Callable[[int, int, Path], Iterator[Any]]]:
    """Name to what makes cases: (first seed, number of seeds, folder to write in)."""
    return {"yaml": yaml_cases, "config": config_cases, "run": run_cases}


def main() -> None:
    """Run one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=list(modes()))
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--command-line", action="store_true", help="a new process for each command")
    parser.add_argument("--show", action="store_true", help="print every message")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rocbench-fuzz-"))
    cases = modes()[given.mode](given.first, given.seeds, folder)
    ends = by_command_line if given.command_line else in_process
    sys.exit(bool(run(cases, ends, folder, show=given.show)))


if __name__ == "__main__":
    main()

"""Settings that somebody got wrong: shipped YAML files and those of the docs, with a few changes. Made by a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

Case = tuple[int, str, tuple[tuple[str, ...], ...]]
"""Seed; file that was made, and of what; arguments of `bench`, one line each."""

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
SHORT = "load: {duration_s: 2, max_duration_s: 4, min_requests_per_user: 1}\n"
"""For what is predicted: a server made ten times as fast takes a longer window ten times as many steps."""
PLAIN = {"model": "qwen3-vl-235b", "workload": "short", "hardware": "mi325x"}
KINDS = (*["sweep"] * 3, *["model"] * 2, "workload", "hardware", "table", "rules", "calibration")
"""What is mutated, by how much can be said in it."""
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


def encoded(text: str, rng: random.Random) -> bytes:
    """Mostly UTF-8; else another encoding, or bytes that are none."""
    way = rng.choice((*["utf-8"] * 30, "utf-8-sig", "utf-16", "utf-32", "latin-1", "bytes"))
    if way == "bytes":
        return text.encode(errors="surrogatepass") + b"\xff\xfe\xc0"
    return text.encode(way, errors="replace")


def cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated file through the command that reads it, by way of a plan."""
    files = settings_files()
    for seed in range(first, first + seeds):
        rng = random.Random(seed)
        kind = rng.choice(KINDS)
        text = rng.choice([text for own, text in files if own == kind])
        path = folder / f"{kind}.yaml"
        path.write_bytes(encoded(mutated(text, rng), rng))
        sweep = path
        if kind in (*PLAIN, "calibration"):
            sweep = folder / "plan.yaml"
            load = SHORT if kind == "calibration" else ""
            sweep.write_text(SWEEP.format(**PLAIN | {kind: str(path)}) + load, encoding="utf-8")
        command = {
            "table": ("ablate", "--table", str(path)),
            "rules": ("gate", str(folder / "none"), "--rules", str(path)),
            "calibration": ("predict", str(sweep), "--calibration", str(path)),
        }.get(kind, ("plan", str(sweep)))
        yield seed, str(path), (command, ("explain", str(path))) if kind == "model" else (command,)

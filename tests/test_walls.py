"""The rules of docs/architecture.md, checked on the source itself, and each shown to catch its fault."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from walls import Module, cycles, import_graph, reachable, read_modules, start_graph

SOURCE = Path(__file__).parents[1] / "src" / "rocbench"
Modules = dict[str, Module]

PURE = (
    "units errors model records rules physics plan tables stats verdict judgement "
    "sim.engine sim.costs load.arrivals load.parse"
).split()
READS_FILES = {"rules.load"}
"""May read the package's own YAML, and do nothing else that a pure module may not."""

IMPURE_LIBRARIES = set(
    "aiohttp asyncio duckdb glob http httpx io logging multiprocessing os platform psutil requests secrets "
    "select selectors shutil signal socket ssl subprocess sys tempfile threading time urllib uuid uvloop".split()
)
PURE_PARTS = ("urllib.parse",)
"""Of these libraries, what only takes texts apart."""
IMPURE_CALLS = set("print open input breakpoint exec eval exit quit".split())
IMPURE_METHODS = set(
    ".read_text .write_text .read_bytes .write_bytes .open .unlink .mkdir .touch .exists .is_file .is_dir "
    ".iterdir .glob .rglob .stat .cwd .home .to_csv .to_parquet .savefig .now .utcnow .today".split()
)
OF_VALUES = (".", "pathlib.", "datetime.", "pandas.")
"""Where these methods are meant: on a value, or on a class of one of these libraries."""
GIVES_TEXT = {".to_csv"}
"""Without a path they write nothing."""
READING = {".read_text", ".read_bytes", ".open", ".glob", ".iterdir", ".exists", ".is_file"}
SEEDED = {"default_rng", "Generator", "SeedSequence", "PCG64", "PCG64DXSM", "Philox", "Random"}

RUN_FOLDER_PATH = re.compile(r"[\w./{}-]*(\.parquet|cells\.csv|manifest\.json|plan\.json)")
BY_NAME = {".read_json", ".write_json", ".sha256"}
"""Methods of the store's run folder that are given a file's name."""
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "core"}


def pure_modules(modules: Modules) -> Iterator[Module]:
    """The modules that must be pure, and all of ours that they import: purity has no back door."""
    graph = import_graph(modules)
    names = {name for name, module in modules.items() if module.within(*PURE)}
    for name in sorted(names.union(*(reachable(name, graph) for name in names))):
        yield modules[name]


def outer_imports(modules: Modules) -> Iterator[str]:
    """Rule 1: the lowest modules lean on nothing of ours."""
    for name in ("units", "errors", "records"):
        if name not in modules:
            continue
        allowed = sys.stdlib_module_names | ({"numpy"} if name == "records" else set())
        for target, line in modules[name].imports:
            if target.split(".")[0] not in allowed:
                yield f"{name}:{line} imports {target}"


def impure_imports(modules: Modules) -> Iterator[str]:
    """Rule 2: what a pure module may not import."""
    for module in pure_modules(modules):
        for target, line in module.imports:
            if target.split(".")[0] in IMPURE_LIBRARIES and not target.startswith(PURE_PARTS):
                yield f"{module.name}:{line} imports {target}"


def impure_calls(modules: Modules) -> Iterator[str]:
    """Rule 2: what a pure module may not call."""
    for module in pure_modules(modules):
        for name, call in module.calls:
            method = "." + name.rpartition(".")[2]
            impure = name in IMPURE_CALLS or (method in IMPURE_METHODS and name.startswith(OF_VALUES))
            impure &= method not in GIVES_TEXT or bool(call.args)
            if impure and not (module.name in READS_FILES and method in READING):
                yield f"{module.name}:{call.lineno} calls {name}"
            if is_global_random(name, call):
                yield f"{module.name}:{call.lineno} draws from {name}, which has no seed of ours"


def is_global_random(name: str, call: ast.Call) -> bool:
    """Whether a call draws from a generator that nobody seeded."""
    if not name.startswith(("random.", "numpy.random.")):
        return False
    return name.rpartition(".")[2] not in SEEDED or not (call.args or call.keywords)


def load_imports(modules: Modules) -> Iterator[str]:
    """Rule 3: the load knows records only; also by way of what it imports."""
    graph = import_graph(modules)
    for name in (name for name, module in modules.items() if module.within("load")):
        for inner in (name, *reachable(name, graph)):
            if modules[inner].within("server", "store"):
                yield f"{name} reaches {inner}"
            for target, line in modules[inner].imports:
                if target.split(".")[0] in {"pandas", "rich", "pydantic"}:
                    yield f"{name} reaches {inner}:{line}, which imports {target}"


def screen_imports(modules: Modules) -> Iterator[str]:
    """Rule 4: typer only in the command line, rich only there and where things are shown."""
    for module in modules.values():
        for target, line in module.imports:
            library = target.split(".")[0]
            if library == "typer" and not module.within("cli", "commands"):
                yield f"{module.name}:{line} imports {target}"
            if library == "rich" and not module.within("cli", "commands", "console", "report"):
                yield f"{module.name}:{line} imports {target}"


def disk_layout(modules: Modules) -> Iterator[str]:
    """Rule 5: only the store knows Parquet, and what files a run folder has."""
    for module in modules.values():
        if module.within("store"):
            continue
        for target, line in module.imports:
            if target.startswith(("pyarrow.parquet", "fastparquet")):
                yield f"{module.name}:{line} imports {target}"
        for name, call in module.calls:
            if name.endswith(("read_parquet", "to_parquet")):
                yield f"{module.name}:{call.lineno} calls {name}"
        named = {id(part) for name, call in module.calls if name in BY_NAME for part in call.args}
        for node in module.strings:
            if RUN_FOLDER_PATH.fullmatch(node.value) and id(node) not in named:
                yield f"{module.name}:{node.lineno} names {node.value}"


def exits(modules: Modules) -> Iterator[str]:
    """Rule 6: only the command line exits; a `__main__` hands its process's code on, the simulator can crash."""
    for module in modules.values():
        if module.within("cli") or module.name.rpartition(".")[2] == "__main__":
            continue
        for name, call in module.calls:
            crash = name == "os._exit" and module.within("sim")
            if name in {"sys.exit", "os._exit", "os.abort", "exit", "quit"} and not crash:
                yield f"{module.name}:{call.lineno} calls {name}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if module.full_name(raised) == "SystemExit":
                    yield f"{module.name}:{node.lineno} raises SystemExit"


def empty_names(modules: Modules) -> Iterator[str]:
    """Rule 7: a module's name says what it is about."""
    for name in modules:
        if BANNED_NAMES & set(name.split(".")):
            yield name


def knots(modules: Modules) -> Iterator[str]:
    """Rule 8: imports have a direction, deferred ones too."""
    for group in cycles(start_graph(modules)):
        yield " <-> ".join(group)


RULES = [
    outer_imports,
    impure_imports,
    impure_calls,
    load_imports,
    screen_imports,
    disk_layout,
    exits,
    empty_names,
    knots,
]


@pytest.fixture(scope="module")
def package() -> Modules:
    """Every module of the package."""
    return read_modules(SOURCE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule, package):
    """The source as it stands breaks none of the rules."""
    faults = "\n".join(rule(package))
    assert not faults, faults


PLANTED = [
    (outer_imports, "units", "from rocbench.errors import BenchError"),
    (outer_imports, "records", "import pandas"),
    (impure_imports, "plan", "import time"),
    (impure_imports, "tables.metrics", "from rocbench.clocks import now"),
    (impure_calls, "physics.kv", "print(1)"),
    (impure_calls, "physics.kv", "from pathlib import Path\nPath('x').read_text()"),
    (impure_calls, "rules.resolve", "open('x')"),
    (impure_calls, "rules.load", "from pathlib import Path\nPath('x').write_text('')"),
    (impure_calls, "rules.table", "from pathlib import Path\nPath('x').read_text()"),
    (impure_calls, "stats", "import numpy as np\nnp.random.rand()"),
    (impure_calls, "stats", "from numpy.random import default_rng\ndefault_rng()"),
    (impure_calls, "stats", "from random import shuffle\nshuffle([])"),
    (impure_calls, "judgement.gate", "from datetime import datetime\ndatetime.now()"),
    (load_imports, "load.wire", "def f():\n    import pandas"),
    (load_imports, "load.wire", "from rocbench.heavy import thing"),
    (screen_imports, "run", "import typer"),
    (screen_imports, "metrics", "from rich.table import Table"),
    (disk_layout, "run", "PATH = 'servers/cells.csv'"),
    (disk_layout, "report.page", "import pandas as pd\npd.read_parquet(where)"),
    (disk_layout, "report.page", "from pyarrow import parquet"),
    (exits, "server.process", "import sys\nsys.exit(1)"),
    (exits, "commands.serving", "raise SystemExit"),
    (empty_names, "load.utils", ""),
    (knots, "load.wire", "def f():\n    from . import other"),
]


@pytest.mark.parametrize(("rule", "name", "source"), PLANTED)
def test_a_planted_fault_is_found(rule, name, source):
    """Each rule sees the fault it is there for, however it is spelt."""
    sources = {
        "heavy": "import pydantic",
        "clocks": "def now():\n    from time import time_ns",
        "errors": "",
        "load": "",
        "load.other": "from rocbench.load.wire import f",
        name: source,
    }
    modules = {key: Module(key, text, is_package=key == "load") for key, text in sources.items()}
    assert list(rule(modules))


HARMLESS = [
    ("records", "import numpy as np\nfrom enum import IntEnum"),
    ("stats", "import numpy as np\nrng = np.random.default_rng(7)\nrng.random()"),
    ("stats", "from random import Random\nRandom(7).random()"),
    ("rules.load", "from pathlib import Path\nPath('x').read_text()"),
    ("plan", "from rocbench.rules.resolve import resolve\nresolve(1)"),
    ("run", "folder.write_json('plan.json', {})"),
    ("store", "import pyarrow.parquet\nPATH = 'cells.parquet'"),
    ("commands.serving", '"""Writes cells.csv."""\nHELP = "writes cells.csv and more"'),
    ("load.wire", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
    ("report.page", "from rich.table import Table"),
]


@pytest.mark.parametrize(("name", "source"), HARMLESS)
def test_what_is_allowed_passes(name, source):
    """The rules leave alone what they are not about."""
    modules = {name: Module(name, source)}
    assert [fault for rule in RULES for fault in rule(modules)] == []

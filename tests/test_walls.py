"""The rules of docs/architecture.md, checked on the source itself, and each shown to catch its fault."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from walls import PACKAGE, Module, cycles, import_graph, reachable, read_modules, start_graph

SOURCE = Path(__file__).parents[1] / "src" / "rocbench"
Modules = dict[str, Module]

FLOOR = (
    "errors units records stats columns variables redact harmless jsontext textfile baseurl address private processes plaintable "
    "column logfilter httpd stdio"
).split()
"""Modules that any other may import. They import only one another."""
MAY_IMPORT = {
    "model": "",
    "settings": "model",
    "physics": "model settings",
    "rules": "model settings",
    "tables": "model physics settings",
    "verdict": "",
    "judgement": "settings tables verdict",
    "probe": "settings",
    "server": "probe",
    "load": "probe",
    "sim": "load model physics rules settings",
    "plan": "judgement model physics rules settings sim tables",
    "newprofile": "model physics settings",
    "importing": "model physics plan settings tables verdict",
    "store": "tables",
    "report": "judgement load model physics plan server store tables verdict",
    "console": "judgement plan report rules server settings tables",
    "export": "judgement report store tables",
    "conduct": "judgement load physics plan probe report rules server settings store tables verdict",
    "fleet": "conduct load plan report server store tables",
    "ledger": "conduct judgement plan store tables",
    "predict": "conduct load plan probe rules settings sim store tables",
    "crash": "server",
    "commands": "*",
    "study": "*",
    "cli": "commands conduct crash server",
    "__main__": "cli",
}
"""What each package (or module beside the packages) may import beside the floor: only what stands above it.

`*`: all that stands above it.
"""
EXCEPTIONS = {
    (
        "conduct.measure",
        "fleet.load",
    ): "load hosts are Ray actors; fleet.load and fleet.cluster know no conduct",
}
"""Imports against the table's direction, each with its reason."""

PURE = (
    "units errors model records columns rules physics plan tables stats verdict judgement "
    "sim.engine sim.costs load.arrivals load.framing load.answer load.eventstream load.events"
).split()
"""Pure with everything that they import. A module that says "Pure." of itself is held to it function by function."""
READS_FILES = {"rules.load", "server.failures"}
"""May read the package's own YAML, and do nothing else that a pure module may not."""
PURE_CLAIM = re.compile(r"\bPure\b")

IMPURE_LIBRARIES = set(
    "aiohttp asyncio duckdb glob http httpx logging multiprocessing os platform psutil requests secrets "
    "select selectors shutil signal socket ssl subprocess sys tempfile threading time urllib uuid uvloop".split()
)
PURE_PARTS = ("urllib.parse", "socket.inet_aton")
"""Of these libraries, what only takes texts apart."""
IMPURE_CALLS = set("print open io.open io.FileIO input breakpoint exec eval exit quit".split())
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
STUDY = "rocbench.study"
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 450, 60, 12
COMMANDS = ("commands", "study.commands")
"""Typer takes each option of a command as a parameter of its function."""
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
            if is_impure(name, call, module):
                yield f"{module.name}:{call.lineno} calls {name}"
            if is_global_random(name, call):
                yield f"{module.name}:{call.lineno} draws from {name}, which has no seed of ours"


def is_impure(name: str, call: ast.Call, module: Module) -> bool:
    """Whether a call reads a clock, a file or the network, or prints."""
    method = "." + name.rpartition(".")[2]
    impure = name in IMPURE_CALLS or (method in IMPURE_METHODS and name.startswith(OF_VALUES))
    impure &= method not in GIVES_TEXT or bool(call.args)
    return impure and not (module.name in READS_FILES and method in READING)


def false_claims(modules: Modules) -> Iterator[str]:
    """Rule 2: a module or function whose docstring says "Pure." is so, with every function of ours that it calls.

    Only calls by name are followed: what a method of a value does is that value's affair.
    """
    functions = {
        f"{PACKAGE}.{module.name}.{name}": (module, node)
        for module in modules.values()
        for name, node in module.functions.items()
    }
    for module in modules.values():
        claims = bool(PURE_CLAIM.search(ast.get_docstring(module.tree) or ""))
        for target, line in module.imports if claims else ():
            if target.split(".")[0] in IMPURE_LIBRARIES and not target.startswith(PURE_PARTS):
                yield f"{module.name}:{line} says that it is pure, and imports {target}"
        for name, node in module.functions.items():
            if claims or PURE_CLAIM.search(ast.get_docstring(node) or ""):
                for way in impure_ways(f"{PACKAGE}.{module.name}.{name}", functions):
                    yield f"{module.name}.{name} says that it is pure, and reaches {way}"


def impure_ways(start: str, functions: dict[str, tuple[Module, ast.AST]]) -> Iterator[str]:
    """Impure calls of a function and of all functions of ours that it calls by name."""
    waiting, seen = [start], {start}
    while waiting:
        module, node = functions[waiting.pop()]
        for name, call in module.calls_in(node):
            library = (
                "." in name and name.split(".")[0] in IMPURE_LIBRARIES and not name.startswith(PURE_PARTS)
            )
            if library or is_impure(name, call, module) or is_global_random(name, call):
                yield f"{module.name}:{call.lineno}, which calls {name}"
            if name in functions and name not in seen:
                seen.add(name)
                waiting.append(name)


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
            if library == "typer" and not module.within("cli", "commands", "study.commands"):
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


def package_imports(modules: Modules) -> Iterator[str]:
    """Rule 9: packages import what the table MAY_IMPORT allows."""
    for module, line, target in across_packages(modules):
        importer, imported = module.name.split(".")[0], target.split(".")[0]
        pair = next((pair for pair in EXCEPTIONS if pair[0] == module.name and within(target, pair[1])), None)
        if pair is None and imported not in allowed(importer):
            yield f"{module.name}:{line} imports {target}: MAY_IMPORT does not allow {importer} -> {imported}"


def across_packages(modules: Modules) -> Iterator[tuple[Module, int, str]]:
    """(importer, line, what it imports of another package that stands in the table)."""
    for module in modules.values():
        importer = module.name.split(".")[0]
        for target, line in module.imports:
            name = target.removeprefix(f"{PACKAGE}.")
            imported = name.split(".")[0]
            known = imported in MAY_IMPORT or imported in FLOOR
            if name != target and known and imported != importer and importer in {*MAY_IMPORT, *FLOOR}:
                yield module, line, name


def allowed(package: str) -> set[str]:
    """What a package may import."""
    if package in FLOOR:
        return set(FLOOR)
    order = list(MAY_IMPORT)
    above = order[: order.index(package)]
    return {*FLOOR, *(above if MAY_IMPORT[package] == "*" else MAY_IMPORT[package].split())}


def within(target: str, name: str) -> bool:
    """Whether an import target is the module or something in it."""
    return target == name or target.startswith(name + ".")


def knots(modules: Modules) -> Iterator[str]:
    """Rule 8: imports have a direction, deferred ones too."""
    for group in cycles(start_graph(modules)):
        yield " <-> ".join(group)


def study_apart(modules: Modules) -> Iterator[str]:
    """Rule 10: nothing outside `study/` names it, but one line of the command line that loads its commands."""
    for module in modules.values():
        if module.within("study"):
            continue
        named = [node for node in module.strings if node.value.startswith(STUDY)]
        for node in named[1:] if module.name == "cli" else named:
            yield f"{module.name}:{node.lineno} names {node.value}"


def too_long(modules: Modules) -> Iterator[str]:
    """Rule 11: a file has at most 450 lines, a function 60 lines and 12 parameters; commands list their options."""
    for module in modules.values():
        if (lines := module.source.count("\n")) > MAX_FILE_LINES:
            yield f"{module.name} has {lines} lines"
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or module.within(*COMMANDS):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            parameters = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
            if lines > MAX_FUNCTION_LINES or parameters > MAX_PARAMETERS:
                yield f"{module.name}:{node.lineno} {node.name} has {lines} lines, {parameters} parameters"


RULES = [
    outer_imports,
    impure_imports,
    impure_calls,
    false_claims,
    load_imports,
    screen_imports,
    disk_layout,
    exits,
    empty_names,
    package_imports,
    knots,
    study_apart,
    too_long,
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


def test_every_module_named_here_exists(package):
    """A wall around a module that is gone guards nothing."""
    named = {*PURE, *READS_FILES, *FLOOR, *MAY_IMPORT, *(name for pair in EXCEPTIONS for name in pair)}
    named |= {*"server store cli commands console report sim load".split()}
    assert named - set(package) == set()


def test_every_package_has_its_place_in_the_table(package):
    """A new package says what it may import."""
    top = {name.split(".")[0] for name in package if name}
    assert top == {*FLOOR, *MAY_IMPORT}
    assert not set(FLOOR) & set(MAY_IMPORT)


def test_a_package_imports_only_what_stands_above_it():
    """So no two packages import each other; the order is that of the table."""
    for place, (package, names) in enumerate(MAY_IMPORT.items()):
        above = list(MAY_IMPORT)[:place]
        assert names == "*" or set(names.split()) <= set(above), package


def test_the_table_allows_nothing_that_is_unused(package):
    """A permission that nobody needs any more goes."""
    used = {
        (module.name.split(".")[0], target.split(".")[0]) for module, _, target in across_packages(package)
    }
    spare = {
        f"{importer} -> {name}"
        for importer, names in MAY_IMPORT.items()
        for name in names.split()
        if name != "*" and (importer, name) not in used
    }
    met = {
        pair
        for module, _, target in across_packages(package)
        for pair in EXCEPTIONS
        if pair[0] == module.name and within(target, pair[1])
    }
    assert not spare, f"take out of MAY_IMPORT: {spare}"
    assert not set(EXCEPTIONS) - met, f"take out of EXCEPTIONS: {set(EXCEPTIONS) - met}"


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
    (package_imports, "commands.predictions", "def f():\n    from rocbench.study import fitting"),
    (package_imports, "cli", "from rocbench.study import commands"),
    (
        study_apart,
        "report.write",
        "from importlib import import_module\nimport_module('rocbench.study.results')",
    ),
    (study_apart, "cli", "A = 'rocbench.study.commands'\nB = 'rocbench.study.results'"),
    (knots, "load.wire", "def f():\n    from . import other"),
    (false_claims, "report.page", '"""A page. Pure."""\nimport time'),
    (false_claims, "report.page", '"""A page. Pure."""\ndef f():\n    print(1)'),
    (
        false_claims,
        "report.page",
        '"""A page. Pure."""\nfrom rocbench import reading\ndef f():\n    reading.text()',
    ),
    (false_claims, "report.page", 'import time\ndef f():\n    """A number. Pure."""\n    return time.time()'),
    (
        false_claims,
        "report.page",
        'class C:\n    def f(self):\n        """A number. Pure."""\n        return open("x")',
    ),
    (package_imports, "settings.schema", "from rocbench.physics import kv"),
    (package_imports, "settings.schema", "from rocbench.sim.argv import parse"),
    (package_imports, "tables.metrics", "def f():\n    from rocbench.server import spec"),
    (package_imports, "units", "from rocbench.settings import schema"),
    (package_imports, "probe.gpu", "from rocbench.server import orphans"),
    (package_imports, "conduct.run", "from rocbench import cli"),
    (too_long, "stats", "x = 1\n" * 451),
    (too_long, "stats", "def f():\n" + "    g()\n" * 60),
    (too_long, "stats", "def f(a, b, c, d, e, f, g, h, i, j, k, *, l, m): ..."),
]


@pytest.mark.parametrize(("rule", "name", "source"), PLANTED)
def test_a_planted_fault_is_found(rule, name, source):
    """Each rule sees the fault it is there for, however it is spelt."""
    sources = {
        "heavy": "import pydantic",
        "clocks": "def now():\n    from time import time_ns",
        "reading": "def text():\n    return inner()\ndef inner():\n    return open('x')",
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
    ("store.folder", "import pyarrow.parquet\nPATH = 'cells.parquet'"),
    ("commands.serving", '"""Writes cells.csv."""\nHELP = "writes cells.csv and more"'),
    ("load.wire", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
    ("report.page", "from rich.table import Table"),
    ("report.page", '"""A page. Pure."""\nimport io\ndef f(run):\n    return io.StringIO(run.text())'),
    ("tables.metrics", "from rocbench.columns import CELLS\nfrom rocbench.physics.kv import capacity"),
    ("probe.gpu", "from rocbench.processes import ProcessIdentity"),
    ("cli", "from importlib import import_module\nimport_module('rocbench.study.commands')"),
    ("study.commands", "import typer\nfrom rocbench.commands import predictions"),
    ("commands.serving", "def f(a, b, c, d, e, f, g, h, i, j, k, *, l, m): ..."),
]


@pytest.mark.parametrize(("name", "source"), HARMLESS)
def test_what_is_allowed_passes(name, source):
    """The rules leave alone what they are not about."""
    modules = {name: Module(name, source)}
    assert [fault for rule in RULES for fault in rule(modules)] == []

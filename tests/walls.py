"""Read the package's source as trees: modules, what each imports, what each calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "rocbench"


@dataclass(frozen=True)
class Module:
    """One source file. `name` is dotted, without the package: `load.arrivals`; a package's is its folder's."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.source, filename=self.name)

    def within(self, *places: str) -> bool:
        """Whether the module is one of the places, or lies in a package of that name."""
        return any(self.name == place or self.name.startswith(place + ".") for place in places)

    @cached_property
    def imports(self) -> list[tuple[str, int]]:
        """Absolute dotted targets, wherever in the file they stand: `from a import b` gives `a.b`.

        Not those for types alone, which no running program sees.
        """
        found = []
        for node in without_type_checking(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = [PACKAGE, *self.name.split(".")]
        drop = node.level - 1 if self.is_package else node.level
        parts = parts[: len(parts) - drop]
        return ".".join([*parts, *([node.module] if node.module else [])])

    @cached_property
    def names(self) -> dict[str, str]:
        """Local name to what it was imported as: `np` to `numpy`, `sleep` to `time.sleep`."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else ""
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{self._base(node)}.{alias.name}"
        return {local: full or local for local, full in found.items()}

    def full_name(self, node: ast.expr) -> str:
        """The dotted name of an expression with imports resolved: `np.random.rand` to `numpy.random.rand`.

        What hangs on a value rather than a name begins with a dot: `path.read_text` to `.read_text`.
        """
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            before = self.full_name(node.value)
            imported = isinstance(node.value, (ast.Name, ast.Attribute)) and self._root(node) in self.names
            return f"{before}.{node.attr}" if imported else f".{node.attr}"
        return ""

    @staticmethod
    def _root(node: ast.expr) -> str:
        while isinstance(node, ast.Attribute):
            node = node.value
        return node.id if isinstance(node, ast.Name) else ""

    @cached_property
    def calls(self) -> list[tuple[str, ast.Call]]:
        """Every call, by its full name."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return [(self.full_name(node.func), node) for node in nodes]

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Functions and methods by name; what makes an object (`__init__`) goes by the name of its class."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[node.name] = node
            elif isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        makes = inner.name in {"__init__", "__post_init__"}
                        found[node.name if makes else f"{node.name}.{inner.name}"] = inner
        return found

    def calls_in(self, node: ast.AST) -> list[tuple[str, ast.Call]]:
        """Every call inside a node, by its full name; a function of this file as others would name it."""
        calls = [(self.full_name(call.func), call) for call in ast.walk(node) if isinstance(call, ast.Call)]
        return [
            (f"{PACKAGE}.{self.name}.{name}" if name in self.functions else name, call)
            for name, call in calls
        ]

    @cached_property
    def strings(self) -> list[ast.Constant]:
        """Every string constant but docstrings."""
        docstrings = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        constants = [node for node in ast.walk(self.tree) if isinstance(node, ast.Constant)]
        return [node for node in constants if isinstance(node.value, str) and id(node) not in docstrings]


def without_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING:`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def read_modules(source: Path) -> dict[str, Module]:
    """Every module under `source`, the package's folder; its own `__init__` is named ``."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return modules


def ours(target: str, modules: dict[str, Module]) -> str | None:
    """The module of ours that an import target names, or None: `rocbench.units.Ns` gives `units`."""
    if target != PACKAGE and not target.startswith(PACKAGE + "."):
        return None
    name = target.removeprefix(PACKAGE).removeprefix(".")
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def import_graph(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Module to the modules of ours it imports, deferred imports included."""
    graph = {}
    for name, module in modules.items():
        targets = {ours(target, modules) for target, _ in module.imports}
        graph[name] = {target for target in targets if target in modules and target != name}
    return graph


def start_graph(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Module to what runs before it: importing `a.b` runs `a` first, unless the importer lies in `a` itself."""
    return {
        name: targets | {above for target in targets for above in packages_of(target)} - {*packages_of(name)}
        for name, targets in import_graph(modules).items()
    }


def packages_of(name: str) -> list[str]:
    """The packages around a module, the outermost first: `a` and `a.b` for `a.b.c`."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def reachable(start: str, graph: dict[str, set[str]]) -> dict[str, str]:
    """Every module that importing `start` may load, to the one that imports it."""
    found: dict[str, str] = {}
    waiting = [start]
    while waiting:
        current = waiting.pop()
        for target in sorted(graph.get(current, ())):
            if target not in found and target != start:
                found[target] = current
                waiting.append(target)
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected, more than one member)."""
    reach = {name: set(reachable(name, graph)) for name in graph}
    groups = {
        tuple(sorted({name} | {other for other in reach[name] if name in reach[other]})) for name in graph
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]

"""Untrusted YAML as a tree of nodes and plain data, within bounds. Pure.

Values are plain: no tags, dates, numbers in base 60 or cycles. Bounds are checked while the text is read, and an alias
counts as its full content each time, so no text can hang, exhaust or crash a reader.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import yaml
from yaml.reader import ReaderError

from rocbench.errors import ConfigError
from rocbench.jsontext import DEEPEST, MOST_DIGITS

MOST_NODES = 10_000
"""Maximum number of keys and values in one file; they take a second to read. The largest shipped file has 1,000."""
LONGEST_KEY = 200
"""Maximum characters of a key."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class _OutOfBounds(Exception):
    def __init__(self, what: str, at: yaml.Mark, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.line, self.fix = what, at.line + 1, fix


class _Loader(yaml.SafeLoader):
    """Reads plain words and counts nodes and depth while it composes; an alias counts as its full content.

    A plain word is a number, true, false, null or text; bare on, off, yes and no are text.
    """

    yaml_implicit_resolvers = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = self.depth = self.deepest = 0
        self.anchored: dict[str, tuple[int, int]] = {}
        """(nodes, levels) of each anchor's content, once it is complete."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.anchored:
                raise _OutOfBounds(
                    f"the alias *{event.anchor} is inside its own anchor, so the value would never end", mark
                )
            nodes, levels = self.anchored.get(str(event.anchor), (0, 0))
            self._count(nodes, self.depth + levels, mark)
            return super().compose_node(parent, index)
        if (tag := event.tag) is not None and tag != "!":
            tag = shown(tag.replace("tag:yaml.org,2002:", "!!"))
            fix = "write the value without the tag; put text in quotes"
            raise _OutOfBounds(f"the tag {tag} is not supported", mark, fix)
        self._count(1, self.depth + 1, mark)
        outside, before = self.deepest, self.nodes - 1
        self.depth += 1
        self.deepest = self.depth
        node = super().compose_node(parent, index)
        if event.anchor is not None:
            self.anchored[event.anchor] = (self.nodes - before, self.deepest - self.depth + 1)
        self.depth -= 1
        self.deepest = max(self.deepest, outside)
        return node

    def _count(self, nodes: int, depth: int, mark: yaml.Mark) -> None:
        self.nodes += nodes
        self.deepest = max(self.deepest, depth)
        if depth > DEEPEST:
            raise _OutOfBounds(f"lists and mappings are nested deeper than {DEEPEST} levels", mark)
        if self.nodes > MOST_NODES:
            raise _OutOfBounds(
                f"the file has more than {MOST_NODES:,} keys and values, with aliases expanded", mark
            )

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        digits = node.value.replace("_", "")
        value = super().construct_yaml_int(node) if len(digits) <= 100 else 10**MOST_DIGITS
        if abs(value) >= 10**MOST_DIGITS:
            raise _OutOfBounds(
                f"a whole number has {len(digits)} digits; at most {MOST_DIGITS} are allowed", node.start_mark
            )
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        if value in (float("inf"), float("-inf")) and "inf" not in node.value.lower():
            raise _OutOfBounds("the number is too large", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
    ("int", r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """Return a text's tree of nodes (for line numbers) and its plain data.

    Args:
        text: one document.
        where: its file, for messages.

    Raises:
        ConfigError: the text is not YAML, or is out of bounds; with the line.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _check(node)
            return node, loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except _OutOfBounds as error:
        raise ConfigError(error.what, where=f"{where}:{error.line}", fix=error.fix) from None
    except ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            "the file has a control character here, so it is not a text file", where=f"{where}:{at}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at_tab = "'\\t'" in str(error.problem)
        raise ConfigError(
            f"not valid YAML: {error.problem}",
            where=f"{where}:{mark.line + 1}" if mark else where,
            fix="indent with spaces: YAML does not allow tabs" if at_tab else "",
        ) from None


def line(node: yaml.Node | None) -> int:
    """Return the line, from 1, on which a node begins."""
    return int(node.start_mark.line) + 1 if node is not None else 1


def shown(text: object, longest: int = 60) -> str:
    """Return a value or key in the form for a message."""
    quoted = repr(text)
    return quoted if len(quoted) <= longest else f"{quoted[: longest - 3]}..."


def _check(root: yaml.Node | None) -> None:
    """Refuse keys that are not text or are repeated, and characters that files, variables or terminals do not accept."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if match := _CONTROL.search(node.value):
                raise _OutOfBounds(f"a text has the control character {match[0]!r}", node.start_mark)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys([key for key, _ in node.value])
            waiting += itertools.chain.from_iterable(node.value)


def _check_keys(keys: list[yaml.Node]) -> None:
    names: set[str] = set()
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            raise _OutOfBounds(
                "a key must be text, not a list or mapping", key.start_mark, "put text with braces in quotes"
            )
        if len(key.value) > LONGEST_KEY:
            raise _OutOfBounds(
                f"a key has {len(key.value)} characters; at most {LONGEST_KEY} are allowed", key.start_mark
            )
        if key.value in names:
            raise _OutOfBounds(
                f"key {shown(key.value)} is given twice", key.start_mark, "remove one of the two"
            )
        names.add(key.value)

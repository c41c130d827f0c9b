"""YAML within bounds: each text that would hang, exhaust or crash a reader gets one message with its line."""

from __future__ import annotations

import pytest

from rocbench.errors import ConfigError
from rocbench.settings import yamltext

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
)
CHAIN = "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))
REFUSED = {
    "a list in itself": ("ok: 1\na: &x [1, *x]", 2, "*x is inside its own anchor"),
    "a mapping merged into itself": ("a: &x {<<: *x}", 1, "*x is inside its own anchor"),
    "nested 900 times": ("[" * 900 + "]" * 900, 1, "deeper than 64"),
    "nested 100,000 times": ("- " * 100_000 + "x", 1, "deeper than 64"),
    "braces 100,000 times": ("{a: " * 100_000, 1, "deeper than 64"),
    "nested by aliases": (CHAIN, 63, "deeper than 64"),
    "a billion laughs": (LAUGHS, 4, "more than 10,000"),
    "a long list": ("[1" + ", 1" * 10_000 + "]", 1, "more than 10,000"),
    "a tag": ("a: 1\nb: !!bool x", 2, "the tag '!!bool'"),
    "a tag of Python": ("a: !!python/object:os.system {}", 1, "the tag '!!python/object:os.system'"),
    "a list as key": ("a:\n  [1]: 2", 2, "a key must be text"),
    "a mapping as key": ("{a: 1}: 2", 1, "a key must be text"),
    "a long key": ("? " + "a" * 5000 + "\n: 1", 1, "a key has 5000 characters"),
    "a key twice": ("a: 1\n'a': 2", 2, "key 'a' is given twice"),
    "4,300 digits": ("a: 1\nb: " + "9" * 4300, 2, "4300 digits"),
    "hexadecimal digits": ("a: 0x" + "f" * 20, 1, "22 digits"),
    "beyond a float": ("a: 1.0e+400", 1, "the number is too large"),
    "a zero byte": ('a: 1\nb: "\\0"', 2, "control character"),
    "half a character": ('a: "\\ud800"', 1, "control character"),
    "an escape": ('a: "\\e[31m"', 1, "control character"),
    "a raw zero byte": ("a: 1\nb: \0", 2, "control character"),
    "a tab": ("a:\n\t- b", 2, "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", 2, "another document"),
}


@pytest.mark.parametrize(("text", "line", "why"), REFUSED.values(), ids=list(REFUSED))
def test_a_text_out_of_bounds_is_told_in_one_message(text: str, line: int, why: str) -> None:
    """With the line, and in few words that any terminal takes."""
    with pytest.raises(ConfigError) as told:
        yamltext.parse(text, "a.yaml")
    assert why in told.value.what
    assert told.value.where == f"a.yaml:{line}"
    assert len(told.value.text()) < 200
    told.value.text().encode()


def test_plain_words_are_what_they_look_like() -> None:
    """No dates, no numbers in base 60, no switches by on and yes; the rest as in every YAML."""
    text = """
when: 2020-13-45
at: 22:30
aiter: on
sign: =
number: [0, -12, 1_000, 0x1F, 010, 0b11, +3]
real: [1.5, -2.0e+3, .5, 1.]
nothing: [~, null, ]
truth: [true, False]
long: 18446744073709551615
base: &base {a: 1, b: [2]}
merged: {<<: *base, c: 3}
twice: [*base, *base]
"""
    base = {"a": 1, "b": [2]}
    assert yamltext.parse("\ufeff" + text, "a.yaml")[1] == {
        "when": "2020-13-45", "at": "22:30", "aiter": "on", "sign": "=",
        "number": [0, -12, 1000, 31, 8, 3, 3], "real": [1.5, -2000.0, 0.5, 1.0],
        "nothing": [None, None], "truth": [True, False], "long": 2**64 - 1,
        "base": base, "merged": base | {"c": 3}, "twice": [base, base],
    }  # fmt: skip

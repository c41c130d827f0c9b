"""Keep secrets out of everything that is written: argv, environment, logs, answers of servers. Pure.

Values are masked before they become JSON and before they are cut.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocbench.errors import InputError
from rocbench.variables import is_secret, shown

MASK = "***"
_MARKED = re.compile(r"\*\*\*(?:sha256:[0-9a-f]{8})?")

_SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
_LINE_END = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Line ends of a text, as in `str.splitlines`."""
_MARGIN = 4096
"""Characters beyond a cut that are searched for a secret across the cut."""

_Q = r"(?:\\*[\"'])?"
"""A quotation mark, also escaped."""
_VALUE = r"(?:\\*\"[^\"\\]*|\\*'[^'\\]*|(?!None\b|null\b|true\b|false\b|\*\*\*|\$[A-Za-z_{])[^\s\"',;&(){}\[\]<>]+)"
_TOKENS = ("auth", "access", "hf", "bearer", "refresh", "session", "api", "hub")
_NAMED = re.compile(
    r"((?:api[_-]?key|passw(?:or)?d|passphrase|(?:(?<=client)|(?<=client[_-]))secret|secret[_-]?key|(?:access|account|private)[_-]?key"
    rf"|(?:{'|'.join(_TOKENS)})[_-]token|credential|authorization|cookie)s?(?:[_-]?\d+)?"
    rf"{_Q}\s*(?:[:=]|=>)\s*[\[(]?\s*(?:(?:bearer|basic|digest|negotiate|token)\s+)?+)({_VALUE})",
    re.IGNORECASE,
)
_FLAG = re.compile(rf"(--(?:api[_-]key|hf[_-]token|token|password)\s+)({_VALUE})", re.IGNORECASE)
_QUERY = re.compile(r"((?<=[?&])(?:token|key|sig|signature|auth|secret|code)=)[^&\s\"'<>]+", re.IGNORECASE)
_VARIABLE = re.compile(rf"\b([A-Z][A-Z0-9_]{{2,80}})({_Q}\s*[=:]\s*)({_VALUE})")
_LONGEST_NAME = 81
_OF_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_BASIC = re.compile(r"\b(basic\s+)([\w+/=-]{8,})", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,4}(?:[./]\d{1,4})?%?")
_COUNTED = frozenset("pass credential credentials authorization auth".split())
"""Words that logs put before a count or a status: `PASS: 5`, `credentials: 401 Client Error`."""
_SPEECH = frozenset(
    "a an cannot expected has holds is it its list must needs no not string takes that the these this too value VALUE".split()
)
"""Words that continue a sentence about a name: `X_TOKEN: must be text`, `give KEY=VALUE`."""
_BARE_USERINFO = re.compile(
    r"(?<![^\s,;='\"(\[{])[\w.%+~-]*:(?![/\s])[^\s\"'<>]{1,200}@(?!sha256:)(?=[\w\[*])"
)
"""`user:password@host` without a scheme; not a path (`/a:/b@c`), and not an image's digest."""
_USERINFO = re.compile(
    r"(://)(?:[^\s/?#\"'<>]*@|[^\s/?#\"'<>@:\[]*:(?!\d{1,5}(?:[/?#]|$))[^\s\"'<>@]{1,200}@)"
)
"""A password may hold `/` and `?` without quoting; text behind a port is a path."""
_KNOWN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{12,}|AIza[\w-]{30,}|nvapi-[\w-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The pattern of a kind of secret, and words that every such text holds: they are found much faster."""

    pattern: re.Pattern[str]
    """Matches no further than the line in which it begins."""
    mask: Callable[[re.Match[str]], str]
    words: tuple[str, ...]
    """Words with which it begins; a variable's name holds one."""
    any_case: bool = True
    inside: bool = False
    """True if the word may be anywhere in the name with which it begins."""

    def masked(self, text: str, lowered: str, among: str) -> str:
        starts = self._starts(text, lowered, among)
        if not starts:
            return text
        done, at, end = [], 0, -1
        for start in starts:
            if start > end:
                line_end = _LINE_END.search(text, start)
                end = line_end.start() if line_end else len(text)
            match = self.pattern.match(text, start, end) if start >= at else None
            if match is not None:
                done += [text[at:start], self.mask(match)]
                at = match.end()
        return "".join([*done, text[at:]]) if done else text

    def _starts(self, text: str, lowered: str, among: str) -> list[int]:
        """Return the places where it may begin, in order."""
        where = lowered if self.any_case else text
        starts: set[int] = set()
        for word in self.words:
            at = where.find(word) if among is lowered or word.lower() in among else -1
            while at >= 0:
                starts.add(_name_start(text, at) if self.inside else at)
                at = where.find(word, at + 1)
        return sorted(starts)

    def hinted(self, text: str, lowered: str) -> bool:
        """True if a text may hold one."""
        where = lowered if self.any_case else text
        return any(word in where for word in self.words)


def _name_start(text: str, at: int) -> int:
    """Return the start of a variable's name that includes this place."""
    least = max(0, at - _LONGEST_NAME)
    while at > least and text[at - 1] in _OF_NAMES:
        at -= 1
    return at


def _lowered(text: str) -> str:
    """Return lower case with the same positions: of all characters, only this one becomes two."""
    return text.replace("\u0130", "i").lower()


def redacted(text: str, secrets: Iterable[str] = (), among: str | None = None) -> str:
    """Return the text with `***` in place of each secret, and of each text with the form of a secret: users
    and passwords of URLs, bearer tokens, keys by their shape (`hf_...`), values after a secret's name
    (`"api_key": "..."`).

    Args:
        text: of any length.
        secrets: known ones.
        among: the words of the text that may show a secret (`hinted`), all of them: a long text is searched
            for no other words.
    """
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    lowered = _lowered(text)
    few = None if among is None else _lowered(among)
    for shape in _SHAPES:
        masked = shape.masked(text, lowered, lowered if few is None else few)
        if masked is not text:
            text, lowered = masked, _lowered(masked)
    return text


def redacted_value(value: str, secrets: Iterable[str] = ()) -> str:
    """Mask a variable's value, also in `user:password@host`; in free text `a:b@c` may mean anything."""
    return _BARE_USERINFO.sub(f"{MASK}@", redacted(value, secrets))


def bare_userinfo(value: str) -> list[str]:
    """Return each `user:password` of a value that precedes a host and follows no scheme."""
    return [match[0][:-1] for match in _BARE_USERINFO.finditer(value)]


def written_forms(value: str) -> set[str]:
    """Return the forms of a text between quotation marks of JSON and of Python, also of one nested in the
    other or in itself.
    """
    forms = {value}
    for _ in range(2):
        forms |= {form for text in forms for form in _quoted_forms(text)}
    return forms


def _quoted_forms(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    # Python writes ' unchanged, or escaped if the text holds both marks.
    parts = [repr(part)[1:-1] for part in text.split("'")]
    yield "'".join(parts)
    yield "\\'".join(parts)


def cut(text: str, length: int, secrets: Iterable[str] = ()) -> str:
    """Return the first characters of a text, without any part of a secret: it is masked before it is cut."""
    return redacted(text[: length + _MARGIN], secrets)[:length]


def redacted_data(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Return nested data with secrets masked in every text; field names stay, so that it can be read back."""
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, Mapping):
        return {name: redacted_data(held, secrets) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_data(item, secrets) for item in value]
    return value


def _masked_rest(match: re.Match[str]) -> str:
    return match[1] + MASK


def _masked_worth(match: re.Match[str]) -> str:
    name = re.split(r"[^\w-]", match[1], maxsplit=1)[0]
    return match[0] if _is_plain_text(name, match, 2) else match[1] + _unquoted(match[2])


def _is_plain_text(name: str, match: re.Match[str], group: int) -> bool:
    """True if a count or a sentence follows the name, and no value."""
    value, text = match[group], match.string
    if value in _SPEECH:
        around = text[match.start(group) - 1] + text[match.end() : match.end() + 2]
        return value == "VALUE" or re.fullmatch(r"\s \S", around) is not None
    return name.lower() in _COUNTED and _NUMBER.fullmatch(value) is not None


def _masked_basic(match: re.Match[str]) -> str:
    """Return the match with the mask, if it is base64 of `user:password`; `basic functionality` is not."""
    text = match[2].rstrip("=")
    try:
        plain = base64.b64decode(text[: len(text) // 4 * 4], altchars=b"-_", validate=False)
    except ValueError:  # none, or letters beyond ASCII
        return match[0]
    return match[1] + MASK if b":" in plain and all(byte >= 32 for byte in plain) else match[0]


def _masked_variable(match: re.Match[str]) -> str:
    if not is_secret(match[1]) or _is_plain_text(match[1], match, 3):
        return match[0]
    return match[1] + match[2] + _unquoted(match[3])


def _unquoted(value: str) -> str:
    """Return the mask, after the value's opening quotation mark."""
    opening = re.match(r"\\*[\"']", value)
    return (opening[0] if opening else "") + MASK


_SHAPES = (
    _Shape(_USERINFO, lambda match: f"{match[1]}{MASK}@", ("://",)),
    _Shape(
        _KNOWN_SHAPES,
        lambda _: MASK,
        tuple("hf_ sk- ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xox AKIA ASIA AIza nvapi- eyJ".split()),
        any_case=False,
    ),
    _Shape(
        _NAMED,
        _masked_worth,
        (*"api_key api-key apikey passw passphrase secret access_key access-key accesskey account_key account-key "
          "accountkey private_key private-key privatekey credential authorization cookie".split(),
         # Not `_token` alone: each request that vLLM logs holds `prompt_token_ids`.
         *(f"{whose}{joint}token" for whose in _TOKENS for joint in "_-")),
    ),
    _Shape(_FLAG, _masked_worth, ("--api", "--hf", "--token", "--passw")),
    _Shape(_QUERY, _masked_rest, ("token=", "key=", "sig=", "signature=", "auth=", "secret=", "code=")),
    _Shape(_BEARER, _masked_rest, ("bearer",)),
    _Shape(_BASIC, _masked_basic, ("basic",)),
    _Shape(
        _VARIABLE,
        _masked_variable,
        tuple("TOKEN SECRET PASS KEY CREDENTIAL CREDS WEBHOOK AUTH PWD COOKIE DSN JWT SAS PAT PW SIGNATURE PRIVATE "
              "BEARER".split()),
        any_case=False,
        inside=True,
    ),
)  # fmt: skip


def hinted(text: str) -> bool:
    """True if a text may hold the form of a secret; most texts do not, and the check is fast."""
    lowered = _lowered(text)
    return any(shape.hinted(text, lowered) for shape in _SHAPES)


def lift_secrets(command: Sequence[str], env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Move `--api-key X` and `--hf-token X` out of argv into VLLM_API_KEY and HF_TOKEN.

    argv is readable by every user of the node (`ps`), and vLLM logs its non-default arguments.
    """
    kept: list[str] = []
    lifted = dict(env)
    words = iter(command)
    for word in words:
        flag, equals, value = word.partition("=")
        variable = _SECRET_FLAGS.get(flag.replace("_", "-"))
        if variable is None:
            kept.append(word)
            continue
        lifted[variable] = value if equals else next(words, "")
    return tuple(kept), lifted


def lift_flags(
    args: Mapping[str, Any], env: Mapping[str, str], where: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """The same for flags by name, before they are written or shown.

    Raises:
        InputError: there are several keys, of which the environment can hold one.
    """
    kept, lifted = dict(args), dict(env)
    for name, value in args.items():
        variable = _SECRET_FLAGS.get("--" + name.lstrip("-").replace("_", "-"))
        if variable is None:
            continue
        del kept[name]
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > 1:
            raise InputError(
                f"--{name.lstrip('-')} takes only one value in bench", where=where, fix=f"set ${variable}"
            )
        if value is not None:
            lifted[variable] = str(values[0])
    return kept, lifted


def masked_argv(command: Sequence[str], secrets: Sequence[str] = ()) -> list[str]:
    """Return argv with secrets masked in each word, and values masked after a flag with a secret's name."""
    masked_words, after_flag = [], False
    for word in command:
        flag, equals, value = word.partition("=")
        named = flag.startswith("-") and is_secret(flag.lstrip("-"))
        if named and equals and value:
            masked_words.append(f"{flag}={MASK}")
        elif after_flag and not word.startswith("--"):
            masked_words.append(MASK)
        else:
            masked_words.append(redacted(word, secrets))
        after_flag = named and not equals
    return masked_words


def masked_entry(name: str, value: Any) -> Any:
    """Return the value of a flag (named with its dashes) or of a variable, masked if it may not be shown."""
    if not name.startswith("-"):
        return value if value is None else marked(name, str(value))
    return _all_masked(value) if hides(name.lstrip("-")) else masked(value)


def masked(value: Any) -> Any:
    """Mask every value under a secret's name in nested settings, and in `env` all unlisted variables."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {name: _masked_setting(str(name), held) for name, held in value.items()}


def _masked_setting(name: str, held: Any) -> Any:
    if name == "env" and isinstance(held, Mapping):
        return marked_environment({k: str(v) for k, v in held.items()})
    if hides(name):
        return _all_masked(held)
    return masked(held)


def hides(name: str) -> bool:
    """True if the value of a setting, flag or axis (`env.NAME`) is never shown."""
    return not shown(name[4:]) if name.startswith("env.") else is_secret(name)


def masked_axis(name: str, text: str) -> str:
    """Return the value of an axis, flag or variable (`env.NAME`) for a sentence or a key."""
    if hides(name):
        return MASK
    return redacted_value(text) if name.startswith("env.") else redacted(text)


def _all_masked(held: Any) -> Any:
    if isinstance(held, Mapping):
        return {name: _all_masked(part) for name, part in held.items()}
    if isinstance(held, list | tuple):
        return [_all_masked(part) for part in held]
    return MASK if isinstance(held, str | int | float) and not isinstance(held, bool) else held


def usable_key(key: str, where: str = "") -> str:
    """Return an API key without the line end that files and CI secrets add.

    Raises:
        InputError: a header cannot carry it. The message does not show the key.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            "the API key contains characters that an HTTP header cannot carry",
            where=where,
            fix="give the key alone: one line of printable ASCII",
        )
    return key


def masked_environment(env: Mapping[str, str], secrets: Sequence[str] = ()) -> dict[str, str]:
    """The environment: values of variables that may be shown (`rocbench.variables`), for others a mask."""
    return {name: redacted_value(value, secrets) if shown(name) else MASK for name, value in env.items()}


def marked_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a user sets for a server, each in the form of `marked`."""
    return {name: marked(name, value) for name, value in env.items()}


def marked(name: str, value: str) -> str:
    """Return a variable's value in the form for files of a run, by which two values can be distinguished.

    A listed variable keeps its value; another gets the mask with a short hash (`***sha256:ab12cd34`). Only
    the mask is written if the name or the value indicates a secret: a short one could be guessed from its
    hash. A marked value stays unchanged.
    """
    if shown(name):
        return redacted_value(value)
    if _MARKED.fullmatch(value):
        return value
    if is_secret(name) or redacted_value(value) != value:
        return MASK
    return f"{MASK}sha256:{hashlib.sha256(value.encode(errors='surrogateescape')).hexdigest()[:8]}"

"""The vocabulary of prompts: token ids, and words that cost one token each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rocbench import textfile
from rocbench.errors import InputError
from rocbench.load.prompts import WORDS, IdArray, allowed_ids
from rocbench.load.spec import Target

LARGEST = 256 << 20
"""Maximum bytes of a tokenizer.json; those of the largest vocabularies have 33 MB."""
_PLAIN_WORD = re.compile(r"[a-z]{3,12}")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ids and words of the prompts."""

    ids: IdArray
    words: tuple[str, ...]
    tokenizer: Any = None

    def encode(self, text: str) -> list[int] | None:
        """Token ids of a text, without special tokens; None without a tokenizer."""
        if self.tokenizer is None:
            return None
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def vocabulary(target: Target) -> Vocabulary:
    """Read the tokenizer, if there is one. Raises InputError if it cannot be read."""
    if target.tokenizer is None:
        return Vocabulary(allowed_ids(target.vocab_size, target.special_ids), WORDS)
    tokenizer = read_tokenizer_file(target.tokenizer)
    added = {index for index, token in tokenizer.get_added_tokens_decoder().items()}
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    if target.vocab_size is not None:
        size = min(size, target.vocab_size)
    ids = np.arange(size, dtype=np.int32)
    barred = np.fromiter(target.special_ids | added, dtype=np.int32)
    ids = ids[~np.isin(ids, barred)]
    words = single_token_words(tokenizer)
    return Vocabulary(ids, words or WORDS, tokenizer)


def read_tokenizer_file(path: str) -> Any:
    """The tokenizer of a `tokenizer.json` or of its folder."""
    from tokenizers import Tokenizer

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    try:
        return Tokenizer.from_str(textfile.read_text(file, most=LARGEST))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        known = error if isinstance(error, InputError) else InputError(str(error), where=str(file))
        raise InputError(
            f"cannot read the tokenizer: {known.what}",
            where=known.where,
            fix=known.fix or "give the folder that contains tokenizer.json, or --vocab-size",
        ) from None


def single_token_words(tokenizer: Any) -> tuple[str, ...]:
    """Lower-case words that cost one token each, also next to each other; none if the tokenizer has too few.

    Vocabularies that split text at spaces (all of GPT-2's kind) then give n tokens for any n of these words.
    A sample of them in one text checks this.
    """
    words = []
    for token, index in sorted(
        tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1]
    ):
        word = token.lstrip("\u0120\u2581 ")
        if len(word) < len(token) and _PLAIN_WORD.fullmatch(word):
            words.append((word, index))
        if len(words) == 8192:
            break
    if len(words) < 256:
        return ()
    sample = words[:: max(1, len(words) // 512)]
    encoded = tokenizer.encode("".join(" " + word for word, _ in sample), add_special_tokens=False).ids
    if encoded != [index for _, index in sample]:
        return ()
    return tuple(word for word, _ in words)

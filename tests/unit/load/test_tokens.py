"""Vocabularies from tokenizers."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rocbench.errors import InputError
from rocbench.load import tokens
from rocbench.load.prompts import WORDS
from rocbench.load.spec import Target

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = [a + b + c for a in "bcdfghjk" for b in "aeiou" for c in LETTERS]


def tokenizer(folder, names=NAMES):
    """A tokenizer whose words cost one token each, with two special ones."""
    vocabulary = {"<unk>": 0, "<s>": 1, **{"\u2581" + name: index + 2 for index, name in enumerate(names)}}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<unk>", "<s>", "<image>"])
    made.save(str(folder / "tokenizer.json"))
    return made


def test_words_are_exactly_one_token_each(tmp_path):
    """A text of n of the vocabulary's words is n tokens."""
    made = tokenizer(tmp_path)
    vocabulary = tokens.vocabulary(Target("http://x", "m", tokenizer=str(tmp_path)))
    assert vocabulary.words is not WORDS
    text = "".join(" " + word for word in vocabulary.words[:200])
    assert len(made.encode(text).ids) == 200
    assert len(vocabulary.encode(text)) == 200


def test_special_ids_are_left_out(tmp_path):
    """No id of a special token, and none beyond the model's vocabulary, stands in a prompt."""
    tokenizer(tmp_path)
    target = Target("http://x", "m", tokenizer=str(tmp_path), special_ids=frozenset({7}), vocab_size=500)
    ids = tokens.vocabulary(target).ids
    assert not {0, 1, 7} & set(ids.tolist())
    assert ids.max() == 499
    assert (np.diff(ids) > 0).all()


def test_a_tokenizer_without_words_falls_back(tmp_path):
    """Too few whole words: common English words are taken, and not called exact."""
    tokenizer(tmp_path, NAMES[:20])
    vocabulary = tokens.vocabulary(Target("http://x", "m", tokenizer=str(tmp_path / "tokenizer.json")))
    assert vocabulary.words is WORDS
    assert vocabulary.words


def test_a_missing_tokenizer_is_an_error_of_the_user(tmp_path):
    """A path without a tokenizer is said with its place and a way out."""
    with pytest.raises(InputError, match="cannot read the tokenizer") as fault:
        tokens.vocabulary(Target("http://x", "m", tokenizer=str(tmp_path)))
    assert "--vocab-size" in fault.value.fix

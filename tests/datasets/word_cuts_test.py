# SPDX-License-Identifier: Apache-2.0
"""That a text encoded word by word has the tokens that the library gives the whole text, and their
characters, for the patterns of well-known tokenizers; and that other tokenizers are left to it."""

import random
import sys
import unicodedata
from itertools import product

import pytest
from tokenizers import (
    AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers,
)  # fmt: skip

from temper_data import piece_encoder
from temper_data.piece_encoder import PieceEncoder
from temper_data.word_cuts import BY_DIGIT, WORDS, WORDS_AND_BREAKS, find_cuts

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN_MARKS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
O200K = QWEN2.replace(r"[\r\n]*|\s*", r"[\r\n/]*|\s*")  # takes a slash behind line breaks, too

TEXTS = [
    "It's what we've had; they'll say I'D 'Tis don'T  do  \n\n  so.\n\n\nAnd\tso\r\n\r\non...\n",
    "def f(x):\n    if x:\n\n        return {'a': 1.5e-3,\n\t\t'b': x[0:12345]}  # done\n\n\n",
    "Ünïcödé naïve façade — „Straße“ … A\u0308rger e\u0301te\u0301 1\u00b2 \u00bd \u2167 12\u00b3",
    "日本語の文章です。\u3000全角の空白\n次の行。中文，没有空格。한국어 문장은. \u1112\u1161\u11ab",
    "Привет, мир! Ещё раз…\u00a0Γειά σου Κόσμε\u2003\u2003עולם שלום مرحبا بالعالم١٢٣",
    "नमस्ते दुनिया १२३ ไทยไม่มีวรรค",
    "👩‍🚀👨‍👩‍👧 🇩🇪 ok👍🏽\n🙂\n\n 🙂 | a | b |\n|---|---|\n| 1 |  2|\n",
    "a\x0bb\x0c c\x1cd \x1de\x1f\nf\x85g\x85 h\u2028i\u2029\u2029 j\u180ek\u200bl\ufeff m\x00 n",
    " leading,   trailing   ", "\n", " ", "", "x", "  \n \n  x",
    "!\n /usr/bin\n/etc .\n\n/a", "'s 's\n's",
]  # fmt: skip
CHARACTERS = ["a", "S", "'", "1", "\u00b2", ".", "/", "\u0301", "日", " ", "\n", "\r", "\t", "\xa0"]
MARK = "<|end|>"


def train(*steps, normalizer=None) -> Tokenizer:
    """A small BPE over these texts, so with tokens of many characters, also of white space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*TEXTS, *(text[::-1] for text in TEXTS)] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(MARK, normalized=False)])
    return tokenizer


def split(pattern: str, behavior: str = "isolated", invert: bool = False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def bytes_of(use_regex: bool = False, add_prefix_space: bool = False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


KNOWN = {
    "gpt-2": lambda: train(bytes_of(use_regex=True)),
    "gpt-2 as a pattern": lambda: train(split(GPT2), bytes_of()),
    "llama 3": lambda: train(split(LLAMA3), bytes_of()),
    "qwen 2": lambda: train(split(QWEN2), bytes_of(), normalizer=normalizers.NFC()),
    "qwen with marks": lambda: train(split(QWEN_MARKS), bytes_of(), normalizer=normalizers.NFC()),
    "smollm2": lambda: train(pre_tokenizers.Digits(True), bytes_of(use_regex=True)),
    "digits before": lambda: train(pre_tokenizers.Digits(False), split(LLAMA3), bytes_of()),
}


@pytest.fixture(scope="module", params=KNOWN)
def tokenizer(request) -> Tokenizer:
    return KNOWN[request.param]()


def check(tokenizer: Tokenizer, pieces: PieceEncoder, texts: list[str]) -> None:
    wholes = tokenizer.encode_batch(texts, add_special_tokens=False)
    for text, whole in zip(texts, wholes, strict=True):
        found = pieces.encode(text)
        assert (found.ids.tolist(), list(found)) == (whole.ids, whole.offsets), ascii(text)


def test_tokens_of_the_words_are_those_of_the_text(tokenizer):
    pieces = PieceEncoder(tokenizer)
    assert pieces._cuts is not None
    check(tokenizer, pieces, [*TEXTS, "".join(TEXTS), MARK.join(TEXTS), f"{MARK}{MARK} a {MARK}\n"])


def test_every_short_text_of_characters_that_patterns_tell_apart(tokenizer):
    texts = ["".join(text) for text in product(CHARACTERS, repeat=4)]
    check(tokenizer, PieceEncoder(tokenizer), texts)


def test_every_white_space_and_control_character_and_many_others(tokenizer):
    special = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    ]
    others = [chr(code) for code in range(0x80, 0x20000, 97) if not 0xD800 <= code < 0xE000]
    contexts = "a{0} b|!{0}{0} b|a {0}b|a\n{0}b|.{0}\n{0}b|a {0}\n b|{0} |1{0}".split("|")
    texts = [text.format(c) for c in special + others for text in contexts]
    check(tokenizer, PieceEncoder(tokenizer), texts)


def test_random_texts_from_all_of_unicode(tokenizer):
    chance = random.Random(5)
    codes = [code for code in range(0x30000) if not 0xD800 <= code < 0xE000]

    def draw() -> str:
        begin = chance.randrange(len(codes))
        block = codes[begin : begin + 64]
        letters = [*map(chr, chance.sample(block, min(8, len(block)))), *CHARACTERS]
        return "".join(chance.choices(letters, k=chance.randrange(1, 40)))

    check(tokenizer, PieceEncoder(tokenizer), [draw() for _ in range(4000)])


def test_what_is_remembered_is_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(piece_encoder, "MAX_WORDS", 5)
    pieces = PieceEncoder(tokenizer)
    check(tokenizer, pieces, TEXTS * 2)
    assert 0 < len(pieces._ids) <= 5 and 0 < len(pieces._spans) <= 5


def test_a_part_that_texts_share_is_one_word(tokenizer, monkeypatch):
    monkeypatch.setattr(piece_encoder, "MAX_HEADS", 2)
    pieces = PieceEncoder(tokenizer)
    heads = [f"You help with {text} " * 4 for text in TEXTS[:3]]
    texts = [f"{MARK}{head}{MARK}{text}" for head in heads for text in TEXTS]
    check(tokenizer, pieces, texts * 2)
    assert pieces._shared == set(heads[:2]) <= set(pieces._ids)
    check(tokenizer, pieces, [heads[0] + text for text in TEXTS])


def test_tokens_near_a_character_are_all_that_touch_it(tokenizer):
    tokens = PieceEncoder(tokenizer).encode(text := MARK.join(TEXTS))
    spans = list(tokens)
    for place in range(len(text) + 1):
        low, near = tokens.near(place)
        high = low + len(near)
        assert list(near) == spans[low:high]
        assert all(begin < place and end < place for begin, end in spans[:low])
        assert all(begin >= place and end > place for begin, end in spans[high:])


def test_characters_are_trimmed_as_the_library_trims_them():
    tokenizer = KNOWN["smollm2"]()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    assert find_cuts(tokenizer) is BY_DIGIT[WORDS]
    check(tokenizer, PieceEncoder(tokenizer), TEXTS)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=True)
    assert find_cuts(tokenizer) is None
    check(tokenizer, PieceEncoder(tokenizer), TEXTS)


def test_added_tokens_that_are_sought_after_a_normalisation_that_is_none():
    tokenizer = train(bytes_of(use_regex=True))
    tokenizer.add_special_tokens([AddedToken(MARK, normalized=True)])
    pieces = PieceEncoder(tokenizer)
    assert pieces._cuts is WORDS
    check(tokenizer, pieces, [MARK.join(TEXTS)])


def with_parts(**parts) -> Tokenizer:
    tokenizer = KNOWN["llama 3"]()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


OTHERS = {
    "another pattern": lambda: train(split(O200K), bytes_of()),
    "pieces that are removed": lambda: train(split(LLAMA3, "removed"), bytes_of()),
    "pieces between matches": lambda: train(split(LLAMA3, invert=True), bytes_of()),
    "two patterns": lambda: train(split(LLAMA3), bytes_of(use_regex=True)),
    "a space in front": lambda: train(bytes_of(use_regex=True, add_prefix_space=True)),
    "another normalisation": lambda: with_parts(normalizer=normalizers.NFKC()),
    "another post-processor": lambda: with_parts(
        post_processor=processors.RobertaProcessing(("a", 0), ("a", 0))
    ),
    "no pieces": lambda: with_parts(pre_tokenizer=pre_tokenizers.Metaspace()),
    "chance": lambda: with_parts(model=models.BPE(dropout=0.5)),
    "another model": lambda: with_parts(model=models.WordLevel({"a": 0}, unk_token="a")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_tokenizers_are_left_to_the_library(name):
    tokenizer = OTHERS[name]()
    assert find_cuts(tokenizer) is None
    if name != "chance":
        check(tokenizer, PieceEncoder(tokenizer), [*TEXTS, MARK.join(TEXTS)])


def test_where_texts_are_cut():
    text = "\n a.\n \n  b  12\n"
    assert WORDS.findall(text) == ["\n a.", "\n \n  b", "  12", "\n"]
    assert WORDS_AND_BREAKS.findall(text) == ["\n", " a.\n \n", "  b", "  12\n"]
    assert BY_DIGIT[WORDS].findall(text) == ["\n a.", "\n \n  b", "  1", "2", "\n"]
    assert BY_DIGIT[WORDS_AND_BREAKS].findall(text) == ["\n", " a.\n \n", "  b", "  1", "2\n"]


CUTS = {
    "gpt-2": WORDS,
    "gpt-2 as a pattern": WORDS,
    "llama 3": WORDS_AND_BREAKS,
    "qwen 2": BY_DIGIT[WORDS_AND_BREAKS],
    "smollm2": BY_DIGIT[WORDS],
    "digits before": WORDS_AND_BREAKS,
}


@pytest.mark.parametrize("name", CUTS)
def test_which_cuts_a_tokenizer_allows(name):
    assert find_cuts(KNOWN[name]()) is CUTS[name]

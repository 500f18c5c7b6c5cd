# SPDX-License-Identifier: Apache-2.0
"""Where a text may be cut so that its tokens are those of the parts, whatever stands in them.

A byte-level BPE tokenizer cuts a text by a pattern, and encodes each piece by itself. The patterns
below are alternatives of which none that has matched something else goes on with white space, and
none looks ahead for more than white space or the end. So no piece reaches across these places, nor
depends on what stands behind:

- Of all patterns: between a character and white space behind it that holds no line break.
- Of those that take line breaks together (`\\s*[\\r\\n]+` comes before `\\s+`): behind the last
  line break of a run of white space; not before the first, which punctuation may take.
- Of the others: between a character and any white space behind it.
- Where each digit is a piece: behind it, and before it where no white space stands.

Digits that are cut out first make the pieces only smaller. NFC composes nothing with white space or
digits.
"""

import json
import re

from tokenizers import Tokenizer

# White space as the patterns have it. Python's own has U+001C to U+001F, too.
BLANK = "\t\x0b\x0c \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
SPACE = BLANK + "\r\n"
BREAKS = f"[{SPACE}]*[\r\n]"
WORDS = re.compile(f"[{SPACE}]*[^{SPACE}]+|[{SPACE}]+")
WORDS_AND_BREAKS = re.compile(f"[{BLANK}]*[^{SPACE}]+(?:{BREAKS})?|{BREAKS}|[{SPACE}]+")
BY_DIGIT = {
    WORDS: re.compile(f"[{SPACE}]*[^{SPACE}0-9]+|[{SPACE}]*[0-9]|[{SPACE}]+"),
    WORDS_AND_BREAKS: re.compile(
        f"[{BLANK}]*[^{SPACE}0-9]+(?:{BREAKS})?|[{BLANK}]*[0-9](?:{BREAKS})?|{BREAKS}|[{SPACE}]+"
    ),
}

# The alternatives of GPT-2, Llama 3, Qwen 2 and 3 and their relatives.
CONTRACTIONS = (
    "'s|'t|'re|'ve|'m|'ll|'d|",
    "'(?:[sdmt]|ll|ve|re)|",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|",
    "'(?i:[sdmt]|ll|ve|re)|",
)
DIGIT = r"\p{N}"
NUMBERS = {r" ?\p{N}+", r"\p{N}+", r"\p{N}{1,3}", DIGIT}
PLAIN = {
    r" ?\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r" ?[^\s\p{L}\p{N}]+", r" ?[^\s\p{L}\p{M}\p{N}]+", *NUMBERS,
}  # fmt: skip
BREAKING = {r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"}
SPACES = [r"\s+(?!\S)", r"\s+"]
BREAKS_AND_SPACES = [r"\s*[\r\n]+", *SPACES]


def find_cuts(tokenizer: Tokenizer) -> re.Pattern | None:
    """What finds, in a text without added tokens, the parts one after the other. None for a
    tokenizer that is not known to encode them by themselves."""
    model, normalizer = tokenizer.model, state_of(tokenizer.normalizer)
    if type(model).__name__ != "BPE" or model.dropout:
        return None
    if normalizer and normalizer["type"] != "NFC" or counts_first(tokenizer.post_processor):
        return None
    state = state_of(tokenizer.pre_tokenizer)
    steps = state.get("pretokenizers", [state]) if state else []
    if steps and steps[0]["type"] == "Digits":
        cuts = cuts_of(steps[1:])
        return BY_DIGIT.get(cuts, cuts) if steps[0]["individual_digits"] else cuts
    return cuts_of(steps)


def cuts_of(steps: list[dict]) -> re.Pattern | None:
    """Of what cuts a text, as tokenizer.json has it."""
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1 and steps[0]["use_regex"]:
        return WORDS
    if len(steps) == 2 and steps[0]["type"] == "Split" and not steps[1]["use_regex"]:
        return cuts_of_split(steps[0])
    return None


def state_of(part) -> dict | None:
    """A part of a tokenizer as tokenizer.json has it."""
    return None if part is None else json.loads(part.__getstate__())


def counts_first(processor) -> bool:
    """Whether the characters of a text's first token may be counted in another way than those of
    others."""
    state = state_of(processor)
    for step in state.get("processors", [state]) if state else []:
        trims = step["type"] == "ByteLevel" and step["trim_offsets"] and step["add_prefix_space"]
        if step["type"] not in ("ByteLevel", "TemplateProcessing") or trims:
            return True
    return False


def cuts_of_split(step: dict) -> re.Pattern | None:
    pattern = step["pattern"].get("Regex", "")
    if step["behavior"] != "Isolated" or step["invert"]:
        return None
    contractions = next((text for text in CONTRACTIONS if pattern.startswith(text)), "")
    branches = pattern.removeprefix(contractions).split("|")
    if branches[-2:] == SPACES and PLAIN.issuperset(branches[:-2]):
        cuts = WORDS
    elif branches[-3:] == BREAKS_AND_SPACES and (PLAIN | BREAKING).issuperset(branches[:-3]):
        cuts = WORDS_AND_BREAKS
    else:
        return None
    return BY_DIGIT[cuts] if NUMBERS.intersection(branches) == {DIGIT} else cuts

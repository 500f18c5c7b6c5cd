# SPDX-License-Identifier: Apache-2.0
"""An answer as text, which grows token by token."""

from dataclasses import dataclass, field

from temper_data.text_ends import first_of, num_held
from tokenizers import Tokenizer

UNFINISHED = "\ufffd"  # what a decoder writes for bytes whose character is not whole


@dataclass
class Choice:
    tokenizer: Tokenizer
    stops: list[str]
    ids: list[int] = field(default_factory=list)
    scores: list[dict] = field(default_factory=list)  # [token]: token, logprob, top
    text: str = ""
    num_told: int = 0  # of its characters
    end: str | None = None  # "stop" or "length"

    def take(self, line: dict) -> str:
        """Takes a token. Returns what of the text is certain now and was not told yet."""
        if self.end:
            return ""
        self.ids.append(line["token"])
        self.scores.append(line)
        self.text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        place = first_of(self.text, self.stops)
        if place >= 0:
            self.text = self.text[:place]
            return self.close("stop")
        whole = self.text.rstrip(UNFINISHED)
        held = max(len(self.text) - len(whole), num_held(self.text, self.stops))
        return self._tell(len(self.text) - held)

    def close(self, end: str) -> str:
        """The rest of the text. A stop that was met before keeps its say."""
        self.end = self.end or end
        return self._tell(len(self.text))

    def _tell(self, num_certain: int) -> str:
        told = self.text[self.num_told : num_certain]
        self.num_told = max(self.num_told, num_certain)
        return told

    def scored(self) -> list[dict]:
        """The scores of those tokens of which some of the text is left."""
        if self.end != "stop" or not self.stops:
            return self.scores
        kept, length = [], 0
        for line in self.scores:
            if length >= len(self.text):
                break
            kept.append(line)
            length += len(self.tokenizer.decode([line["token"]]))
        return kept


def text_of(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.decode([token], skip_special_tokens=False)


def to_logprobs(tokenizer: Tokenizer, lines: list[dict], offset: int) -> dict:
    """As completions have them; `offset`: characters of what is told before. A first token of an
    echo has no logprob."""
    tokens, offsets = [], []
    for line in lines:
        tokens.append(text_of(tokenizer, line["token"]))
        offsets.append(offset)
        offset += len(tokens[-1])
    return {
        "tokens": tokens,
        "token_logprobs": [line["logprob"] for line in lines],
        "top_logprobs": [to_top(tokenizer, line) for line in lines],
        "text_offset": offsets,
    }


def to_top(tokenizer: Tokenizer, line: dict) -> dict | None:
    """By text; of tokens with the same text, the likeliest."""
    if line["logprob"] is None:
        return None
    top = {}
    for token, logprob in line.get("top", []):
        top.setdefault(text_of(tokenizer, token), logprob)
    return top


def to_content(tokenizer: Tokenizer, lines: list[dict]) -> dict:
    """As chats have them."""

    def entry(token: int, logprob: float) -> dict:
        text = text_of(tokenizer, token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return {
        "content": [
            entry(line["token"], line["logprob"])
            | {"top_logprobs": [entry(*pair) for pair in line.get("top", [])]}
            for line in lines
        ]
    }

# SPDX-License-Identifier: Apache-2.0
"""What each token of a document stands for: text, bytes of a character, or a special token."""

import re
from dataclasses import dataclass
from functools import cached_property

from .model_tokenizer import ModelTokenizer
from .word_cuts import state_of

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


Part = tuple[str, str]  # kind and text: "text"; "bytes", as hexadecimal; "special"; "unknown" id


@dataclass(frozen=True)
class Piece:
    """One token as it is to be shown. Where a character is made of several tokens, it is part of
    the last one, and those before show their bytes."""

    id: int
    is_target: bool
    parts: tuple[Part, ...]

    @property
    def is_special(self) -> bool:
        return self.parts[0][0] == "special"


def byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level vocabularies write bytes.

    Source: GPT-2's bytes_to_unicode: printable ones stand for themselves, the others from 256 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    pairs = [(chr(byte), byte) for byte in plain]
    return dict(pairs + [(chr(256 + place), byte) for place, byte in enumerate(others)])


ALPHABET = byte_alphabet()


class TokenBytes:
    """The bytes that each token of a vocabulary adds to the text."""

    def __init__(self, model: ModelTokenizer):
        self._tokenizer = model.tokenizer
        self.special = model.special_ids()
        self._added = set(model.tokenizer.get_added_tokens_decoder())
        self._known: dict[int, bytes | None] = {}

    @cached_property
    def _decoders(self) -> list[dict]:
        """The tokenizer's steps from tokens to text."""
        decoder = state_of(self._tokenizer.decoder) or {}
        return decoder.get("decoders", [decoder] if decoder else [])

    def name(self, number: int) -> str | None:
        """As the vocabulary writes it; None for an id that it does not have."""
        return self._tokenizer.id_to_token(number)

    def of(self, number: int) -> bytes:
        """Precondition: the vocabulary has this id."""
        if number not in self._known:
            self._known[number] = self._find(number)
        return self._known[number]

    def _find(self, number: int) -> bytes:
        text = self.name(number)
        if number in self._added:  # These stand for themselves in every tokenizer.
            return text.encode("utf-8", "replace")
        for step in self._decoders:
            byte = BYTE_TOKEN.fullmatch(text)
            if step["type"] == "ByteLevel" and all(c in ALPHABET for c in text):
                return bytes(ALPHABET[character] for character in text)
            if step["type"] == "ByteFallback" and byte:
                return bytes([int(byte[1], 16)])
            text = undo(step, text)
        return text.encode("utf-8", "replace")


def undo(step: dict, text: str) -> str:
    """What a decoding step makes of a token within a text. The first one's blank is left in."""
    if step["type"] == "Replace" and "String" in step["pattern"]:
        return text.replace(step["pattern"]["String"], step["content"])
    if step["type"] == "Metaspace":
        return text.replace(step["replacement"], " ")
    if step["type"] == "BPEDecoder":
        return text.replace(step["suffix"], " ")
    if step["type"] == "WordPiece":
        prefix = step["prefix"]
        return text[len(prefix) :] if text.startswith(prefix) else " " + text
    return text


def pieces_of(ids, mask, vocabulary: TokenBytes) -> list[Piece]:
    """Each token of a document. Shapes: ids and mask [n]."""
    pieces, begun = [], b""
    numbers = [int(number) for number in ids]
    for place, (number, target) in enumerate(zip(numbers, mask, strict=True)):
        name = vocabulary.name(number)
        if name is None or number in vocabulary.special:
            part, begun = ("unknown", str(number)) if name is None else ("special", name), b""
            pieces.append(Piece(number, bool(target), (part,)))
            continue
        data = vocabulary.of(number)
        whole, rest = begun + data, b""
        if not whole[-1:].isascii():  # Else no character is left open.
            whole, rest = split_open(whole, bytes_ahead(numbers[place + 1 : place + 4], vocabulary))
        parts = parts_of(whole)
        if rest:  # What earlier tokens left open has been shown with them.
            parts.append(("bytes", hex_of(rest if whole else data)))
        pieces.append(Piece(number, bool(target), tuple(parts or [("bytes", "")])))
        begun = rest
    return pieces


def bytes_ahead(numbers: list[int], vocabulary: TokenBytes) -> bytes:
    """What may complete a character: the next tokens' bytes, up to a special token."""
    ahead = b""
    for number in numbers:
        if vocabulary.name(number) is None or number in vocabulary.special:
            break
        ahead += vocabulary.of(number)
    return ahead


def parts_of(data: bytes) -> list[Part]:
    """Text, and the bytes within it that are none."""
    parts: list[Part] = []
    while data:
        try:
            return [*parts, ("text", data.decode("utf-8"))]
        except UnicodeDecodeError as error:
            if error.start:
                parts.append(("text", data[: error.start].decode("utf-8")))
            parts.append(("bytes", hex_of(data[error.start : error.end])))
            data = data[error.end :]
    return parts


def split_open(data: bytes, ahead: bytes) -> tuple[bytes, bytes]:
    """What is complete, and the character at the end that the bytes ahead complete."""
    for size in (1, 2, 3):
        tail = data[-size:]
        if len(tail) < size or tail[0] < 0xC2 or tail[0] > 0xF4:
            continue
        wanted = 2 + (tail[0] >= 0xE0) + (tail[0] >= 0xF0)
        if wanted <= size:
            break
        try:
            (tail + ahead[: wanted - size]).decode("utf-8")
        except UnicodeDecodeError:
            break
        return data[:-size], tail
    return data, b""


def hex_of(data: bytes) -> str:
    return data.hex(" ").upper()

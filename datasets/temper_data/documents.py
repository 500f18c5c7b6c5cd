# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: records in, token ids, masks and split decisions out."""

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from .chat_template import ChatTemplate, TemplateRefusal
from .conversations import Conversation, read_conversation
from .errors import RecordRefusal, is_unicode
from .limits import bounded_memory
from .model_tokenizer import ModelTokenizer
from .recipe import Recipe, Source
from .records import Batch
from .target_mask import NO_END, find_text_end, mask_tokens, render_with_turns

MAX_EXAMPLES = 10  # dropped records described per batch and reason; the count is always exact
RENDER_BYTES = 512 << 20  # memory for rendering a conversation, beside
RENDER_BYTES_PER_BYTE = 32  # of the longest record; both arbitrary, far above need
UNREADABLE = "unreadable record"
NO_UNICODE, HALF_PAIR = "invalid Unicode", "holds half a surrogate pair"


@dataclass
class Document:
    """One document's tokens, which of them are targets, and where it goes."""

    ids: np.ndarray  # uint32 [n]
    mask: np.ndarray | None = None  # uint8 [n]; None for pretrain
    turn_ends: list[int] = field(default_factory=list)  # of each trained turn; see target_mask
    in_holdout: bool = False


@dataclass
class Prepared:
    """The documents of one batch, end to end, and what was dropped of it."""

    tokens: np.ndarray  # uint32 [n]
    lengths: np.ndarray  # int64 [documents]
    mask: np.ndarray | None  # uint8 [n]; None for pretrain
    turn_ends: np.ndarray  # int64 [trained turns]: the special token that ends it, or TEXT_END, ...
    num_turns: np.ndarray  # int64 [documents]
    digests: list[int]  # 64-bit hash of each document's tokens
    in_holdout: np.ndarray  # bool [documents]
    dropped: Counter = field(default_factory=Counter)  # reason to count
    examples: list[tuple[str, str]] = field(default_factory=list)  # reason, "file:line: detail"
    source_bytes: int = 0


class DocumentTimeout(BaseException):
    """A document took longer than the recipe allows. No Exception, since templates catch those."""


def on_alarm(*_) -> None:
    raise DocumentTimeout


class DocumentMaker:
    """Turns records into documents. Knows nothing of processes."""

    def __init__(self, recipe: Recipe, model: ModelTokenizer):
        self.recipe = recipe
        self.model = model
        named = model.named_tokens
        self.marks = model.special_ids()  # The special tokens that may end a turn.
        if named.get("bos_token") != named.get("eos_token"):
            self.marks.discard(model.tokenizer.token_to_id(named.get("bos_token", "")))
        today = date.fromisoformat(recipe.date) if recipe.date else None
        sources = model.templates if recipe.kind == "sft" else {}
        self.templates = {
            name: ChatTemplate(source, named, today)
            for name, source in sources.items()
            if name in ("default", "tool_use")
        }

    def prepare(self, batch: Batch, begin: Callable[[int], None]) -> Prepared:
        """All records of a batch. What is wrong with one record is counted, never raised.

        Says by `begin` which record comes next. Needs on_alarm as handler of SIGALRM.
        """
        documents, dropped, examples = [], Counter(), []
        for number, (line, data) in enumerate(batch.records):
            begin(number)
            made = self.make_timed(batch.source, data)
            if isinstance(made, Document):
                documents.append(made)
                continue
            dropped[made.reason] += 1
            if dropped[made.reason] <= MAX_EXAMPLES:
                where = f"{batch.file}:{line}"
                detail = f"{where}: {made.detail}" if made.detail else where
                examples.append((made.reason, detail))
        prepared = assemble(documents, self.recipe.kind)
        prepared.dropped, prepared.examples = dropped, examples
        prepared.source_bytes = batch.source_bytes
        return prepared

    def make_timed(self, source: Source, data: bytes | RecordRefusal) -> Document | RecordRefusal:
        """The document, or why there is none, within the time that the recipe allows."""
        try:
            signal.setitimer(signal.ITIMER_REAL, self.recipe.seconds_per_document)
            try:
                return self.make(source, data)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except RecordRefusal as refusal:
            return refusal
        except DocumentTimeout:
            return timed_out(self.recipe)
        except RecursionError:
            return RecordRefusal("nested too deeply")
        except MemoryError:
            return RecordRefusal("needs too much memory")
        except Exception as error:  # A kind of bad record that nobody thought of.
            return RecordRefusal(UNREADABLE, f"{type(error).__name__}: {error}")

    def make(self, source: Source, data: bytes | RecordRefusal) -> Document:
        if isinstance(data, RecordRefusal):
            raise data
        text = decode(data)
        record = {} if source.format == "text" else parse_object(text)
        if self.recipe.kind == "sft":
            conversation = read_conversation(
                record, source.format, source.field, self.recipe.system
            )
            document = self.encode_conversation(conversation)
            content = conversation.key()
        else:
            content = text if source.format == "text" else read_text(record, source.field)
            document = self.encode_text(content)
        self.limit_length(document)
        key = content if self.recipe.holdout_by == "document" else self.read_key(record)
        document.in_holdout = self.is_in_holdout(key)
        return document

    def encode_text(self, text: str) -> Document:
        if not text.strip():
            raise RecordRefusal("empty")
        ids = encode(self.model.tokenizer, text).ids
        return Document(np.array([*self.model.bos_ids, *ids, self.model.eos_id], np.uint32))

    def encode_conversation(self, conversation: Conversation) -> Document:
        name = self.model.template_name(conversation.tools)
        if name is None:
            names = ", ".join(sorted(self.model.templates))
            raise RecordRefusal("no chat template", f"none is named default, but {names}")
        template = self.templates[name]
        memory = RENDER_BYTES + RENDER_BYTES_PER_BYTE * self.recipe.max_record_bytes
        try:
            with bounded_memory(memory):
                text, turns = render_with_turns(template, conversation)
            encoding = encode(self.model.tokenizer, text)
            mask, ends = mask_tokens(encoding, text, turns, self.marks)
            if NO_END in ends:
                with bounded_memory(memory):
                    turns = [
                        find_text_end(template, conversation, turn, text) if end == NO_END else turn
                        for turn, end in zip(turns, ends, strict=True)
                    ]
                mask, ends = mask_tokens(encoding, text, turns, self.marks)
        except TemplateRefusal as refusal:
            raise RecordRefusal("refused by the chat template", str(refusal)) from None
        known = [end for end in ends if end is not None]
        return Document(np.array(encoding.ids, np.uint32), mask, known)

    def limit_length(self, document: Document) -> None:
        """Applies the policy for long documents; refuses those without a target."""
        limit = self.recipe.max_tokens
        if limit and len(document.ids) > limit:
            if self.recipe.too_long == "drop":
                raise RecordRefusal("too long", f"{len(document.ids)} tokens, max_tokens={limit}")
            document.ids = document.ids[:limit]
            document.mask = None if document.mask is None else document.mask[:limit]
        if len(document.ids) < 2 or document.mask is not None and not document.mask.any():
            raise RecordRefusal("no target token")

    def read_key(self, record: dict) -> str:
        value = record.get(self.recipe.holdout_by)
        if not isinstance(value, (str, int)):
            raise RecordRefusal("no hold-out key", f"no text under {self.recipe.holdout_by}")
        if not is_unicode(str(value)):
            raise RecordRefusal(NO_UNICODE, f"{self.recipe.holdout_by} {HALF_PAIR}")
        return str(value)

    def is_in_holdout(self, key: str) -> bool:
        """By a hash of the key, white space apart, so that copies lie on one side."""
        text = f"{self.recipe.holdout_salt}\0{' '.join(key.split())}"
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") < self.recipe.holdout_fraction * 2**64


def decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordRefusal("invalid UTF-8", f"byte {error.start}: {error.reason}") from None


def parse_object(text: str) -> dict:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordRefusal("invalid JSON", f"{error}") from None
    if not isinstance(record, dict):
        raise RecordRefusal("invalid JSON", "the line holds no object")
    return record


def read_text(record: dict, field: str) -> str:
    text = record.get(field)
    if not isinstance(text, str):
        keys = f"the record has {', '.join(sorted(record))}" if record else "the record is empty"
        raise RecordRefusal("malformed record", f"{field} is no text; {keys}")
    return text


def encode(tokenizer, text: str):
    """The encoding without added special tokens. Raises RecordRefusal on lone surrogates."""
    if not is_unicode(text):
        raise RecordRefusal(NO_UNICODE, HALF_PAIR)
    return tokenizer.encode(text, add_special_tokens=False)


def assemble(documents: list[Document], kind: str) -> Prepared:
    """Puts documents end to end."""
    ids = [document.ids for document in documents]
    masks = [document.mask for document in documents] if kind == "sft" else None
    ends = [end for document in documents for end in document.turn_ends]
    return Prepared(
        tokens=np.concatenate(ids) if ids else np.zeros(0, np.uint32),
        lengths=np.array([len(part) for part in ids], np.int64),
        mask=None if masks is None else np.concatenate([np.zeros(0, np.uint8), *masks]),
        turn_ends=np.array(ends, np.int64),
        num_turns=np.array([len(document.turn_ends) for document in documents], np.int64),
        digests=[digest_of(part) for part in ids],
        in_holdout=np.array([document.in_holdout for document in documents], bool),
    )


def digest_of(ids: np.ndarray) -> int:
    """64 bits that stand for a document's tokens."""
    digest = hashlib.blake2b(ids.astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def timed_out(recipe: Recipe) -> RecordRefusal:
    return RecordRefusal("timed out", f"took longer than {recipe.seconds_per_document} s")

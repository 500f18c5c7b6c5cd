# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: records in, token ids, masks and split decisions out."""

import hashlib
import json
import signal
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .balance import class_of
from .columns import rename
from .conversation_encoder import ConversationEncoder, Document
from .conversations import Conversation, read_conversation
from .digest_set import digest
from .errors import DataError, RecordRefusal, is_unicode
from .filters.chain import FilterChain
from .filters.contradictions import Asked
from .filters.findings import Findings
from .model_tokenizer import HALF_PAIR, NO_UNICODE, ModelTokenizer
from .recipe import Recipe, Source
from .records import Batch
from .traces import Traces, make_tracer, text_of

MAX_EXAMPLES = 10  # dropped records described per batch and reason; the count is always exact
UNREADABLE = "unreadable record"


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
    file: str = ""  # as it stands before the number in a document's place
    lines: np.ndarray | None = None  # int64 [documents]: where each begins in its file
    findings: Findings = field(default_factory=Findings)  # of the filters
    asked: list[Asked] = field(default_factory=list)  # questions, if contradictions are looked for
    traces: Traces | None = None  # None if documents are not compared

    def place(self, number: int) -> str:
        """Where a document begins, for messages."""
        return f"{self.file}{self.lines[number]}"


class DocumentTimeout(BaseException):
    """A document took longer than the recipe allows. No Exception, since templates catch those."""


def on_time_up(*_) -> None:
    raise DocumentTimeout


class DocumentMaker:
    """Turns records into documents. Knows nothing of processes."""

    def __init__(self, recipe: Recipe, model: ModelTokenizer):
        self.recipe = recipe
        self.model = model
        self.filters = FilterChain(recipe.filters)
        self.tracer = make_tracer(recipe)
        self.encoder = ConversationEncoder(recipe, model)
        self.needs_key = recipe.holdout_fraction > 0 or self.tracer is not None
        self.require_room()

    def require_room(self) -> None:
        """Raises DataError if a piece of a text has no place for two tokens and its marks."""
        least = len(self.model.bos_ids) + 2
        if self.recipe.too_long == "split" and self.recipe.max_tokens < least:
            raise DataError(
                f"max_tokens is {self.recipe.max_tokens}: no piece of a text fits between its "
                "beginning and end tokens",
                f"set max_tokens to {least} or more",
            )

    def prepare(self, batch: Batch, begin: Callable[[int], None]) -> Prepared:
        """All records of a batch. What is wrong with one record is counted, never raised.

        Says by `begin` which record comes next. Needs on_time_up as handler of SIGPROF.
        """
        documents, lines, dropped, examples = [], [], Counter(), []
        self.filters.take()
        self.encoder.memory.renew()
        for number, (line, data) in enumerate(batch.records):
            begin(number)
            made = within_time(self.recipe, self.make, batch.source, data)
            self.filters.finish_record(batch.place(line), made)
            if isinstance(made, list):
                documents += made
                lines += len(made) * [line]
                continue
            dropped[made.reason] += 1
            if dropped[made.reason] <= MAX_EXAMPLES:
                where = batch.place(line)
                detail = f"{where}: {made.detail}" if made.detail else where
                examples.append((made.reason, detail))
        prepared = assemble(documents, self.recipe.kind)
        prepared.dropped, prepared.examples = dropped, examples
        prepared.source_bytes = batch.source_bytes
        prepared.file, prepared.lines = f"{batch.file}:{batch.unit}", np.array(lines, np.int64)
        prepared.findings, prepared.asked = self.filters.take()
        if self.tracer is not None:
            traces = [document.trace for document in documents]
            prepared.traces = self.tracer.gather(batch.source.path, traces)
        return prepared

    def make(self, source: Source, data: bytes | RecordRefusal) -> list[Document]:
        if self.recipe.kind == "sft":
            record = read_object(data)
            conversation = read_conversation(record, source, self.recipe)
            conversation = self.filters.conversation(conversation)
            documents = [self.encode_conversation(conversation)]
            content = conversation.key() if self.needs_key else ""
            said = [text_of(conversation)]
        else:
            content, record = read_document(source, data)
            content = self.filters.text(content, source.path)
            documents, said = self.encode_text(content)
        key = content if self.recipe.holdout_by == "document" else self.read_key(record)
        in_holdout = self.is_in_holdout(key)
        class_name = class_of(record, self.recipe.balance_of(source))
        for document, text in zip(documents, said, strict=True):
            self.require_rows(document)
            require_target(document)
            document.in_holdout = in_holdout
            if self.tracer is not None:
                document.trace = self.tracer.of(text, key, class_name)
        return documents

    def encode_text(self, text: str) -> tuple[list[Document], list[str]]:
        """The text as one document, or in pieces that have beginning and end each; their texts."""
        if not text.strip():
            raise RecordRefusal("empty")
        tokens = self.encoder.pieces.encode(text)
        limit, bos = self.recipe.max_tokens, np.array(self.model.bos_ids, np.uint32)
        eos = np.array([self.model.eos_id], np.uint32)
        size = max(1, len(tokens))
        room = limit - len(bos) - 1 if self.recipe.too_long == "split" else size
        begins = range(0, size, room)
        documents = [
            Document(np.concatenate([bos, tokens.ids[begin : begin + room], eos]))
            for begin in begins
        ]
        if limit and len(documents[0].ids) > limit:
            self.refuse_long(documents[0])
            documents[0].ids = documents[0].ids[:limit]
        ends = [tokens[begin][0] for begin in begins[1:]] + [len(text)]
        return documents, [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def encode_conversation(self, conversation: Conversation) -> Document:
        encoded, limit = self.encoder.encode(conversation), self.recipe.max_tokens
        if not limit or len(encoded.document.ids) <= limit:
            return encoded.document
        self.refuse_long(encoded.document)
        return self.encoder.cut(conversation, encoded, limit)

    def require_rows(self, document: Document) -> None:
        """Raises RecordRefusal if a token has no row in the model's embedding."""
        if not self.model.lacks_rows or not len(document.ids):
            return
        if document.ids.max() >= self.model.vocab_size:
            worst = int(document.ids.max())
            text = self.model.tokenizer.id_to_token(worst)
            detail = f"{text!r} has id {worst}, the embedding {self.model.vocab_size} rows"
            raise RecordRefusal("token outside of the embedding", detail)

    def refuse_long(self, document: Document) -> None:
        """Raises RecordRefusal if the recipe wants long documents dropped."""
        if self.recipe.too_long == "drop":
            detail = f"{len(document.ids)} tokens, max_tokens={self.recipe.max_tokens}"
            raise RecordRefusal("too long", detail)

    def read_key(self, record: dict) -> str:
        value = record.get(self.recipe.holdout_by)
        if not isinstance(value, (str, int)):
            raise RecordRefusal("no hold-out key", f"no text under {self.recipe.holdout_by}")
        if not is_unicode(str(value)):
            raise RecordRefusal(NO_UNICODE, f"{self.recipe.holdout_by} {HALF_PAIR}")
        return str(value)

    def is_in_holdout(self, key: str) -> bool:
        """By a hash of the key, white space apart, so that copies lie on one side."""
        if not self.recipe.holdout_fraction:
            return False
        text = f"{self.recipe.holdout_salt}\0{' '.join(key.split())}"
        place = hashlib.sha256(text.encode("utf-8")).digest()
        return int.from_bytes(place[:8], "big") < self.recipe.holdout_fraction * 2**64


def within_time(recipe: Recipe, make: Callable, source: Source, data: bytes | RecordRefusal) -> Any:
    """What `make` returns of a record, or why nothing, within the time that the recipe allows.

    Time is the processor's, so that a busy machine drops nothing that an idle one keeps.
    """
    try:
        signal.setitimer(signal.ITIMER_PROF, recipe.seconds_per_document)
        try:
            return make(source, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except RecordRefusal as refusal:
        return refusal
    except DocumentTimeout:
        return timed_out(recipe)
    except RecursionError:
        return RecordRefusal("nested too deeply")
    except MemoryError:
        return RecordRefusal("needs too much memory")
    except Exception as error:  # A kind of bad record that nobody thought of.
        return RecordRefusal(UNREADABLE, f"{type(error).__name__}: {error}")


def read_document(source: Source, data: bytes | RecordRefusal) -> tuple[str, dict]:
    """The text of a record, and the record if it is an object. Raises RecordRefusal."""
    if source.format == "text":
        return decode(data), {}
    record = read_object(data)
    return read_text(record, source), record


def read_object(data: bytes | RecordRefusal) -> dict:
    return parse_object(decode(data))


def decode(data: bytes | RecordRefusal) -> str:
    if isinstance(data, RecordRefusal):
        raise data
    try:
        return str(data.removeprefix(BOM_UTF8), "utf-8")
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


def read_text(record: dict, source: Source) -> str:
    text = rename(record, source.columns).get(source.field)
    if not isinstance(text, str):
        keys = f"the record has {', '.join(sorted(record))}" if record else "the record is empty"
        raise RecordRefusal("malformed record", f"{source.field} is no text; {keys}")
    return text


def require_target(document: Document) -> None:
    # Bytes are looked through much sooner than a small array.
    if len(document.ids) < 2 or document.mask is not None and 1 not in document.mask.tobytes():
        raise RecordRefusal("no target token")


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
    return digest(np.ascontiguousarray(ids, "<u4"))


def timed_out(recipe: Recipe) -> RecordRefusal:
    return RecordRefusal("timed out", f"took longer than {recipe.seconds_per_document} s")

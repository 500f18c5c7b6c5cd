# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: records in, token ids, masks and split decisions out."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from .chat_template import ChatTemplate, TemplateRefusal
from .conversations import Conversation, RecordRefusal, read_conversation
from .model_tokenizer import load_model_tokenizer
from .recipe import Recipe, Source
from .records import Batch
from .target_mask import mask_tokens, render_with_spans

MAX_EXAMPLES = 10  # dropped records described per batch and reason; the count is always exact


@dataclass
class Prepared:
    """The documents of one batch, end to end, and what was dropped of it."""

    tokens: np.ndarray  # uint32 [n]
    lengths: np.ndarray  # int64 [documents]
    mask: np.ndarray | None  # uint8 [n]; None for pretrain
    digests: list[int]  # 64-bit hash of each document's tokens
    in_holdout: np.ndarray  # bool [documents]
    dropped: Counter = field(default_factory=Counter)  # reason to count
    examples: list[tuple[str, str]] = field(default_factory=list)  # reason, "file:line: detail"
    source_bytes: int = 0


class DocumentTimeout(Exception):
    """A document took longer than the recipe allows."""


def on_alarm(*_) -> None:
    raise DocumentTimeout


class DocumentMaker:
    """Turns records into documents. One per process; knows nothing of other processes."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.model = load_model_tokenizer(Path(recipe.model), recipe.eos_token)
        self.special_ids = self.model.special_ids()
        self.template = None
        if recipe.kind == "sft":
            today = date.fromisoformat(recipe.date) if recipe.date else None
            self.template = ChatTemplate(
                self.model.chat_template or "", self.model.named_tokens, today
            )
        signal.signal(signal.SIGALRM, on_alarm)

    def prepare(self, batch: Batch) -> Prepared:
        """All records of a batch. What is wrong with one record is counted, never raised."""
        documents, dropped, examples = [], Counter(), []
        for line, data in batch.records:
            try:
                documents.append(self.make_timed(batch.source, data))
            except RecordRefusal as refusal:
                dropped[refusal.reason] += 1
                if dropped[refusal.reason] <= MAX_EXAMPLES:
                    where = f"{batch.file}:{line}"
                    detail = f"{where}: {refusal.detail}" if refusal.detail else where
                    examples.append((refusal.reason, detail))
        return assemble(documents, self.recipe.kind, dropped, examples, batch.source_bytes)

    def make_timed(self, source: Source, data: bytes | None):
        """(ids, mask or None, in hold-out). Raises RecordRefusal."""
        limit = self.recipe.seconds_per_document
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return self.make(source, data)
        except DocumentTimeout:
            raise RecordRefusal("timed out", f"took longer than {limit} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def make(self, source: Source, data: bytes | None):
        if data is None:
            limit = self.recipe.max_record_bytes
            raise RecordRefusal("record too large", f"more than max_record_bytes={limit} bytes")
        text = decode(data)
        record = {} if source.format == "text" else parse_object(text)
        if self.recipe.kind == "sft":
            conversation = read_conversation(
                record, source.format, source.field, self.recipe.system
            )
            ids, mask = self.encode_conversation(conversation)
            content = json.dumps([conversation.messages, conversation.tools], sort_keys=True)
        else:
            content = text if source.format == "text" else read_text(record, source.field)
            ids, mask = self.encode_text(content), None
        ids, mask = self.limit_length(ids, mask)
        key = content if self.recipe.holdout_by == "document" else self.read_key(record)
        return ids, mask, self.is_in_holdout(key)

    def encode_text(self, text: str) -> np.ndarray:
        if not text.strip():
            raise RecordRefusal("empty")
        ids = encode(self.model.tokenizer, text).ids
        return np.array([*self.model.bos_ids, *ids, self.model.eos_id], np.uint32)

    def encode_conversation(self, conversation: Conversation) -> tuple[np.ndarray, np.ndarray]:
        try:
            text, spans = render_with_spans(self.template, conversation)
        except TemplateRefusal as refusal:
            raise RecordRefusal("refused by the chat template", str(refusal)) from None
        encoding = encode(self.model.tokenizer, text)
        mask = mask_tokens(encoding.ids, encoding.offsets, text, spans, self.special_ids)
        return np.array(encoding.ids, np.uint32), mask

    def limit_length(self, ids: np.ndarray, mask: np.ndarray | None):
        """Applies the policy for long documents; refuses those without a target."""
        limit = self.recipe.max_tokens
        if limit and len(ids) > limit:
            if self.recipe.too_long == "drop":
                raise RecordRefusal("too long", f"{len(ids)} tokens, max_tokens={limit}")
            ids = ids[:limit]
            mask = None if mask is None else mask[:limit]
        if len(ids) < 2 or mask is not None and not mask.any():
            raise RecordRefusal("no target token")
        return ids, mask

    def read_key(self, record: dict) -> str:
        value = record.get(self.recipe.holdout_by)
        if not isinstance(value, (str, int)):
            raise RecordRefusal("no hold-out key", f"no text under {self.recipe.holdout_by}")
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
        raise RecordRefusal("malformed record", f"{field} is no text")
    return text


def encode(tokenizer, text: str):
    """The encoding without added special tokens. Raises RecordRefusal on lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecordRefusal("invalid Unicode", "holds half a surrogate pair") from None
    return tokenizer.encode(text, add_special_tokens=False)


def assemble(documents: list, kind: str, dropped, examples, source_bytes: int) -> Prepared:
    """Puts (ids, mask, in hold-out) triples end to end."""
    ids = [document[0] for document in documents]
    masks = [document[1] for document in documents] if kind == "sft" else None
    return Prepared(
        tokens=np.concatenate(ids) if ids else np.zeros(0, np.uint32),
        lengths=np.array([len(part) for part in ids], np.int64),
        mask=None if masks is None else np.concatenate([np.zeros(0, np.uint8), *masks]),
        digests=[digest_of(part) for part in ids],
        in_holdout=np.array([document[2] for document in documents], bool),
        dropped=dropped,
        examples=examples,
        source_bytes=source_bytes,
    )


def digest_of(ids: np.ndarray) -> int:
    """64 bits that stand for a document's tokens."""
    digest = hashlib.blake2b(ids.astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


_maker: DocumentMaker | None = None


def start_worker(recipe: Recipe) -> None:
    """Initialises a worker process: parallel across documents, so not inside one."""
    global _maker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The main process ends the workers.
    threading.Thread(target=end_with_parent, daemon=True).start()
    _maker = DocumentMaker(recipe)


def end_with_parent() -> None:
    """A worker whose main process was killed would wait for work forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def prepare_in_worker(batch: Batch) -> Prepared:
    return _maker.prepare(batch)

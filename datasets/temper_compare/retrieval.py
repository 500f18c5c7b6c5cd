# SPDX-License-Identifier: Apache-2.0
"""Finds passages, or examples, that are near a question."""

import json
from pathlib import Path

import bm25s
import numpy as np
from safetensors import SafetensorError, safe_open
from temper_data.errors import DataError
from temper_data.model_tokenizer import build, read_file

SMOOTHING = 1e-3  # of a token's weight a / (a + frequency); Arora et al., ICLR 2017, section 3
EMBEDDINGS = ("embeddings", "embed_tokens.weight", "wte.weight", "word_embeddings.weight")


class Bm25Index:
    """Robertson's BM25, as bm25s has it by default (Lucene's, k1 1.5, b 0.75)."""

    def __init__(self, texts: list[str]):
        self.texts = texts
        self._index = bm25s.BM25()
        self._index.index(tokenise(texts), show_progress=False)

    def nearest(self, question: str, count: int) -> list[int]:
        """Numbers of the texts, the best first; fewer than `count` if there are no more."""
        most = min(count, len(self.texts))
        found, _ = self._index.retrieve(tokenise([question]), k=most, show_progress=False)
        return [int(number) for number in found[0]]


def tokenise(texts: list[str]):
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


class DenseIndex:
    """The cosine of mean token embeddings: those of a folder of model2vec, or the input embeddings
    of a language model. A rare token weighs more than a common one. No layers are run."""

    def __init__(self, folder: str, texts: list[str]):
        """Raises DataError."""
        self._tokenizer = build(Path(folder), read_file(Path(folder) / "tokenizer.json"))
        self._rows = read_embeddings(Path(folder))
        ids = [self._ids(text) for text in texts]
        counts = np.bincount(np.concatenate(ids), minlength=len(self._rows))
        self._weights = SMOOTHING / (SMOOTHING + counts / max(1, counts.sum()))
        self._vectors = np.stack([self._vector(tokens) for tokens in ids])  # [text, width]

    def nearest(self, question: str, count: int) -> list[int]:
        """As of Bm25Index."""
        scores = self._vectors @ self._vector(self._ids(question))
        return np.argsort(-scores, kind="stable")[:count].tolist()

    def _ids(self, text: str) -> np.ndarray:
        ids = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        return ids[ids < len(self._rows)]

    def _vector(self, ids: np.ndarray) -> np.ndarray:
        """[width], of length 1; zeros for a text without tokens."""
        mean = (self._weights[ids, None] * self._rows[ids]).sum(0)
        return mean / max(np.linalg.norm(mean), 1e-12)


def read_embeddings(folder: Path) -> np.ndarray:
    """The rows of a model's tokens, fp32 [token, width]. Raises DataError."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                for name in file.keys():
                    if name.endswith(EMBEDDINGS):
                        return as_float(file, path, name)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: {error}", "copy the model again") from error
    raise DataError(
        f"{folder} holds no safetensors file with token embeddings",
        f"name a model folder with a tensor that ends with one of: {', '.join(EMBEDDINGS)}",
    )


def as_float(file, path: Path, name: str) -> np.ndarray:
    """A tensor as fp32. NumPy knows no bfloat16, whose bits are the upper half of an fp32."""
    if file.get_slice(name).get_dtype() != "BF16":
        return file.get_tensor(name).astype(np.float32)
    with open(path, "rb") as raw:
        size = int.from_bytes(raw.read(8), "little")
        described = json.loads(raw.read(size))[name]
        begin, end = described["data_offsets"]
        raw.seek(8 + size + begin)
        bits = np.frombuffer(raw.read(end - begin), "<u2").astype("<u4") << 16
    return bits.view("<f4").reshape(described["shape"])

# SPDX-License-Identifier: Apache-2.0
"""The beginning of a document as text, by which people know it in reports."""

from collections.abc import Sequence

from .errors import printable
from .model_tokenizer import ModelTokenizer

SHOWN_TOKENS = 60  # arbitrary


def beginning(tokens: Sequence[int], model: ModelTokenizer) -> str:
    """Of a document, or of its first SHOWN_TOKENS; special tokens are written out."""
    return printable(model.tokenizer.decode(tokens[:SHOWN_TOKENS], skip_special_tokens=False))

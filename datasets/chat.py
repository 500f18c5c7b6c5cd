#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back, with a model folder's own tokenizer and chat template.

    chat.py encode <model> [question] [--system TEXT] [--raw]    prints the prompt's ids
    chat.py encode <model> --messages < messages.json            for a whole conversation
    chat.py decode <model> [--keep-special] < ids                prints the text

Without a question `encode` reads standard input, as `decode` does.
`encode` renders a user's question with the generation prompt, so that a model may answer right
away; ids are printed on one line, separated by blanks. `decode` reads one answer per line.
"""

import argparse
import json
import sys
from pathlib import Path

from temper_data.chat_template import ChatTemplate, TemplateRefusal
from temper_data.errors import DataError, is_unicode
from temper_data.limits import limit_memory
from temper_data.model_tokenizer import ModelTokenizer, load_model_tokenizer

MEMORY_BYTES = 4 << 30  # more than any prompt needs; a template may ask for any amount


def encode_chat(model: ModelTokenizer, messages: list[dict]) -> list[int]:
    """Ids of `messages` with the generation prompt. Raises DataError."""
    if not model.chat_template:
        raise DataError(
            "the model has no chat template", "use --raw, or add its chat_template.jinja"
        )
    template = ChatTemplate(model.chat_template, model.named_tokens)
    try:
        text = template.render(messages, None, True)
    except TemplateRefusal as refusal:
        raise DataError(
            f"the chat template refuses the conversation: {refusal}",
            "check roles and their order",
        ) from refusal
    return encode_plain(model, text)


def encode_plain(model: ModelTokenizer, text: str) -> list[int]:
    if not is_unicode(text):
        raise DataError("the text is no valid UTF-8", "correct its encoding")
    return model.tokenizer.encode(text, add_special_tokens=False).ids


def encode_text(model: ModelTokenizer, text: str) -> list[int]:
    """Ids of plain text to be continued, with the beginning token if this tokenizer adds one."""
    return [*model.bos_ids, *encode_plain(model, text)]


def decode_ids(model: ModelTokenizer, ids: list[int], keep_special: bool) -> str:
    """The text of `ids`. Raises DataError for an id that the tokenizer does not know."""
    wrong = [index for index in ids if not 0 <= index < model.vocab_size]
    if wrong:
        raise DataError(
            f"token id {wrong[0]} is outside the vocabulary of {model.vocab_size}",
            "name the model folder that the ids come from",
        )
    return model.tokenizer.decode(ids, skip_special_tokens=not keep_special)


def read_messages(text: str) -> list[dict]:
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the messages are no JSON: {error}", "pass a list of messages") from error
    if not isinstance(messages, list) or not all(isinstance(item, dict) for item in messages):
        raise DataError("the messages are no list of objects", 'pass [{"role": "user", ...}]')
    return messages


def encode_command(model: ModelTokenizer, arguments: argparse.Namespace) -> None:
    text = sys.stdin.read() if arguments.question is None else arguments.question
    if arguments.raw:
        ids = encode_text(model, text)
    elif arguments.messages:
        ids = encode_chat(model, read_messages(text))
    else:
        system = [{"role": "system", "content": arguments.system}] if arguments.system else []
        ids = encode_chat(model, [*system, {"role": "user", "content": text.strip()}])
    print(*ids)


def decode_command(model: ModelTokenizer, arguments: argparse.Namespace) -> None:
    for line in sys.stdin:
        try:
            ids = [int(word) for word in line.replace(",", " ").split()]
        except ValueError as error:
            raise DataError(f"{error}", "pass token ids separated by blanks") from error
        print(decode_ids(model, ids, arguments.keep_special), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    encode = verbs.add_parser("encode", help="text to ids")
    encode.add_argument("model", type=Path, help="Hugging Face model folder")
    encode.add_argument("question", nargs="?", help="text; default: standard input")
    encode.add_argument("--system", default="", help="system message before the question")
    shape = encode.add_mutually_exclusive_group()
    shape.add_argument("--raw", action="store_true", help="no template: text to be continued")
    shape.add_argument("--messages", action="store_true", help="input is JSON messages")
    encode.set_defaults(command=encode_command)
    decode = verbs.add_parser("decode", help="ids on standard input to text")
    decode.add_argument("model", type=Path, help="Hugging Face model folder")
    decode.add_argument("--keep-special", action="store_true", help="show special tokens")
    decode.set_defaults(command=decode_command)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    sys.stdin.reconfigure(errors="surrogateescape")  # What is no UTF-8 is refused in words.
    try:
        model = load_model_tokenizer(arguments.model)
        limit_memory(MEMORY_BYTES)
        arguments.command(model, arguments)
    except DataError as error:
        print(f"chat: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

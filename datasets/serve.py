#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves a model on this machine, in the manner of OpenAI's API, with a chat page at /.

    serve.py MODEL [--adapter NAME=FOLDER ...] [--port PORT] [--ranks N] [OPTIONS]

OPTIONS are those of `temper generate`. It is for trying a result and for evaluation: it listens on
127.0.0.1 alone, without keys. The model is a process of temper that stays; an adapter has one of
its own, which starts when it is first asked.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import uvicorn
from serving.api import Served
from serving.api_error import ApiError
from serving.model_process import ModelProcess
from serving.server import make_app
from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.temper_program import TemperProgram, max_length

FAILED = 1


def parse_adapter(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def make_models(arguments: argparse.Namespace, options: list[str]) -> dict[str, Served]:
    """By name, the model itself first. Raises DataError."""
    tokenizer = load_model_tokenizer(arguments.model)
    models = {}
    for name, adapter in [(arguments.model.resolve().name, ""), *arguments.adapter]:
        if name in models:
            raise DataError(f"there are two models {name!r}", "give the adapter another name")
        own = ["--adapter", adapter, *options] if adapter else options
        command = TemperProgram(arguments.model, arguments.ranks, own).command(
            "generate", "--requests", "-"
        )
        room = max_length(arguments.model, adapter)
        models[name] = Served(name, tokenizer, ModelProcess(command), room)
    return models


def listen(port: int) -> socket.socket:
    """Raises DataError."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except (OSError, OverflowError) as error:
        raise DataError(f"port {port} cannot be had: {error}", "choose another --port") from error
    return listener


async def serve(models: dict[str, Served], listener: socket.socket) -> None:
    """Until a signal ends it. Raises ApiError if the model cannot be loaded."""
    first = next(iter(models.values()))
    try:
        async for _ in first.process.ask([{"prompt": [0], "max_tokens": 0}]):
            pass
        config = uvicorn.Config(make_app(models), log_level="warning", timeout_graceful_shutdown=3)
        names = ", ".join(models)
        port = listener.getsockname()[1]
        print(f"serve: http://127.0.0.1:{port}/v1 has {names}", file=sys.stderr, flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        await asyncio.gather(*(served.process.end() for served in models.values()))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False,
        epilog="Further options are those of temper generate, such as --dtype bfloat16.",
    )  # fmt: skip
    parser.add_argument("model", type=Path, help="a Hugging Face model folder")
    parser.add_argument("--adapter", type=parse_adapter, action="append", default=[],
                        metavar="NAME=FOLDER", help="under NAME; may be repeated")  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="0: one that is free")
    parser.add_argument("--ranks", type=int, default=1, help="of this machine, for each model")
    arguments, options = parser.parse_known_args()
    try:
        listener = listen(arguments.port)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(make_models(arguments, options), listener))
    except (DataError, ApiError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())

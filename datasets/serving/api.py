# SPDX-License-Identifier: Apache-2.0
"""Answers in OpenAI's shapes, whole or as server-sent events."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from serving.api_error import ApiError
from serving.asked import Asked
from serving.choice import Choice, to_content, to_logprobs
from serving.model_process import ModelProcess
from temper_data.model_tokenizer import ModelTokenizer


@dataclass
class Served:
    """A model, or an adapter on it, under a name."""

    name: str
    tokenizer: ModelTokenizer
    process: ModelProcess
    room: int  # tokens that prompt and answer may have


class Answering:
    """The choices of one request, as they grow."""

    def __init__(self, served: Served, asked: Asked, is_chat: bool):
        self.served, self.asked, self.is_chat = served, asked, is_chat
        self.tokenizer = served.tokenizer.tokenizer
        count = len(asked.prompts) * asked.n
        self.choices = [Choice(self.tokenizer, asked.stops) for _ in range(count)]
        self.prompt_scores: dict[int, list[dict]] = {}  # By prompt.
        prefix = "chatcmpl" if is_chat else "cmpl"
        self.id, self.created = f"{prefix}-{secrets.token_hex(12)}", int(time.time())
        self.kind = "chat.completion" if is_chat else "text_completion"

    async def pieces(self) -> AsyncIterator[tuple[int, str]]:
        """Which choice, and what its text goes on with. Raises ApiError."""
        n = self.asked.n
        async for prompt, line in self.served.process.ask(self.asked.requests()):
            if "answers" not in line:
                index = prompt * n + line["answer"]
                choice = self.choices[index]
                had_ended = choice.end is not None
                text = choice.take(line)
                if choice.end and not had_ended:
                    self.served.process.cancel(line["id"], line["answer"])
                if text:
                    yield index, text
                continue
            self.prompt_scores[prompt] = scores_of_prompt(self.asked.prompts[prompt], line)
            for number, answer in enumerate(line["answers"]):
                index = prompt * n + number
                yield index, self.choices[index].close(answer["end"])

    def usage(self) -> dict:
        read = sum(map(len, self.asked.prompts))
        written = sum(len(choice.ids) for choice in self.choices)
        return {
            "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written
        }  # fmt: skip

    def frame(self, choices: list[dict], kind: str, **others) -> dict:
        named = {"id": self.id, "object": kind, "created": self.created}
        return named | {"model": self.served.name, "choices": choices} | others

    def whole(self) -> dict:
        """The answer to a request that is not streamed."""
        choices = [self.whole_choice(index, choice) for index, choice in enumerate(self.choices)]
        return self.frame(choices, self.kind, usage=self.usage())

    def whole_choice(self, index: int, choice: Choice) -> dict:
        told = {"index": index, "finish_reason": choice.end, "logprobs": None}
        is_scored = self.asked.num_likely is not None
        if self.is_chat:
            if is_scored:
                told["logprobs"] = to_content(self.tokenizer, choice.scored())
            return told | {"message": {"role": "assistant", "content": choice.text}}
        before, lines = "", choice.scored()
        if self.asked.echoes:
            prompt = index // self.asked.n
            before, lines = self.asked.texts[prompt], [*self.prompt_scores[prompt], *lines]
        if is_scored:
            offset = 0 if self.asked.echoes else len(self.asked.texts[index // self.asked.n])
            told["logprobs"] = to_logprobs(self.tokenizer, lines, offset)
        return told | {"text": before + choice.text}

    async def events(self, first: tuple[int, str], rest: AsyncIterator) -> AsyncIterator[str]:
        """The same as server-sent events; what fails on the way is one of them."""
        told = [0] * len(self.choices)  # Of their scores.
        for index in range(len(self.choices)):
            if self.is_chat:
                yield self.event(index, {"delta": {"role": "assistant", "content": ""}})
            elif self.asked.echoes:
                yield self.event(index, {"text": self.asked.texts[index // self.asked.n]})
        try:
            yield self.piece(*first, told)
            async for index, text in rest:
                yield self.piece(index, text, told)
        except ApiError as error:
            yield as_event(error.body())
            return
        if self.asked.tells_usage:
            yield as_event(self.frame([], self.chunk_kind, usage=self.usage()))
        yield "data: [DONE]\n\n"

    @property
    def chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else self.kind

    def piece(self, index: int, text: str, told: list[int]) -> str:
        """The event of some text, with the scores of the tokens since the last one."""
        choice = self.choices[index]
        part: dict = {"text": text}
        if self.is_chat:
            part = {"delta": {"content": text} if text else {}}
        if self.asked.num_likely is not None:
            lines = choice.scored()[told[index] :]
            told[index] += len(lines)
            part["logprobs"] = (
                to_content(self.tokenizer, lines) if self.is_chat
                else to_logprobs(self.tokenizer, lines, choice.num_told - len(text))
            )  # fmt: skip
        return self.event(index, part, choice.end)

    def event(self, index: int, part: dict, end: str | None = None) -> str:
        told = {"index": index, "logprobs": None, "finish_reason": end} | part
        return as_event(self.frame([told], self.chunk_kind))


def scores_of_prompt(ids: list[int], line: dict) -> list[dict]:
    """A prompt's tokens as the answer's have it."""
    logprobs = line.get("prompt_logprobs")
    if logprobs is None:
        return []
    tops = line.get("prompt_top") or [None] * len(ids)
    return [
        {"token": token, "logprob": logprob, "top": top or []}
        for token, logprob, top in zip(ids, logprobs, tops, strict=True)
    ]


def as_event(value: dict) -> str:
    return f"data: {json.dumps(value)}\n\n"

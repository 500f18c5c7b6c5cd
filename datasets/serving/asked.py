# SPDX-License-Identifier: Apache-2.0
"""What the body of a request asks for. Source: OpenAI's API reference, completions and chat."""

import secrets
from dataclasses import dataclass, field

from chat import encode_chat, encode_text
from serving.api_error import ApiError
from temper_data.errors import DataError, RecordRefusal
from temper_data.limits import bounded_memory
from temper_data.message_parts import check_messages
from temper_data.model_tokenizer import ModelTokenizer

MOST_LIKELY = 20  # as `temper generate` has it
COMPLETION_TOKENS, CHAT_TOKENS = 16, 1024  # by default, if there is room
MEMORY_BYTES = 2 << 30  # A template may ask for any amount.
NUMBERS = {
    "temperature": (0, 100), "top_p": (0, 1), "min_p": (0, 1), "repetition_penalty": (0.01, 100),
}  # fmt: skip
SEED = 1 << 63
INTEGERS = {
    "n": (1, 128), "max_tokens": (0, 1_000_000), "top_k": (0, 1 << 30), "seed": (-SEED, SEED),
}  # fmt: skip
# Of what is not done here, the values that ask for nothing.
NEUTRAL = {
    "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},), "best_of": (1,),
    "suffix": ("",), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},), "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
}  # fmt: skip
IGNORED = {"model", "user", "metadata", "store", "service_tier", "safety_identifier"}
COMMON = {*NUMBERS, *INTEGERS, *NEUTRAL, *IGNORED, "stop", "stream", "stream_options", "logprobs"}


@dataclass
class Asked:
    """Prompts, of which each gets `n` answers, and how they are told."""

    prompts: list[list[int]]
    texts: list[str]  # of the prompts, for an echo
    settings: dict  # as `temper generate` has them, the same for all prompts
    n: int = 1
    stops: list[str] = field(default_factory=list)
    streams: bool = False
    tells_usage: bool = False  # at the end of a stream
    echoes: bool = False
    num_likely: int | None = None

    def requests(self) -> list[dict]:
        shared = self.settings | {"n": self.n, "stream": True}
        return [shared | {"prompt": ids} for ids in self.prompts]


def wrong(name: str, value, wanted: str) -> ApiError:
    return ApiError(400, f"{name} is {str(value)[:60]!r}, wanted {wanted}", name)


def read_body(body, own: set[str]) -> dict:
    """The members that are set. Raises ApiError for one that is not known or cannot be done."""
    if not isinstance(body, dict):
        raise ApiError(400, "the body is no JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name not in COMMON | own:
            raise ApiError(400, f"there is no parameter {name!r}", name, "unknown_parameter")
        if name in NEUTRAL and value not in NEUTRAL[name]:
            raise ApiError(400, f"{name} is not supported here", name, "unsupported_parameter")
    return given


def read_number(given: dict, name: str, kinds, least, most):
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if kinds is int else "a number"
        raise wrong(name, value, f"{kind} from {least} to {most}")
    return value


def read_flag(given: dict, name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def read_stops(given: dict) -> list[str]:
    value = given.get("stop", [])
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise wrong("stop", value, "a text or a list of texts")
    return stops


def read_settings(given: dict) -> dict:
    """What is asked of `temper generate`, with the API's defaults, and `n`."""
    settings = {"temperature": 1.0, "seed": secrets.randbits(63), "n": 1}
    for name, bounds in NUMBERS.items():
        if name in given:
            settings[name] = read_number(given, name, (int, float), *bounds)
    for name, bounds in INTEGERS.items():
        if name in given:
            settings[name] = read_number(given, name, int, *bounds)
    settings["seed"] %= 1 << 64
    return settings


def make_asked(given: dict, prompts: list[list[int]], texts: list[str], most: int) -> Asked:
    """`most`: tokens of an answer, unless the body says."""
    settings = {"max_tokens": most} | read_settings(given)
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise wrong("stream_options", options, "an object")
    return Asked(
        prompts, texts, settings, settings.pop("n"), read_stops(given), read_flag(given, "stream"),
        read_flag(options, "include_usage"),
    )  # fmt: skip


def score(asked: Asked, num_likely: int) -> None:
    """Asks for log-probabilities of tokens and, beside them, of the likeliest ones."""
    asked.num_likely = asked.settings["logprobs"] = num_likely
    if asked.echoes:
        asked.settings["prompt_logprobs"] = True


def read_completion(body, model: ModelTokenizer, room: int) -> Asked:
    """Of /v1/completions. `room`: tokens that prompt and answer may have. Raises ApiError."""
    given = read_body(body, {"prompt", "echo"})
    prompts, texts = read_prompts(given.get("prompt"), model)
    longest = max(map(len, prompts))
    asked = make_asked(given, prompts, texts, min(COMPLETION_TOKENS, max(0, room - longest)))
    asked.echoes = read_flag(given, "echo")
    if "logprobs" in given:
        score(asked, read_number(given, "logprobs", int, 0, MOST_LIKELY))
    return asked


def read_prompts(value, model: ModelTokenizer) -> tuple[list[list[int]], list[str]]:
    """Ids and texts: a text, ids, or a list of either."""
    if isinstance(value, str) or is_ids(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise wrong("prompt", value, "a text, token ids, or a list of either")
    prompts, texts = [], []
    for one in value:
        if isinstance(one, str):
            prompts.append(or_refuse(lambda text: encode_text(model, text), one, "prompt"))
            texts.append(one)
        elif is_ids(one):
            prompts.append(one)
            texts.append(model.tokenizer.decode([i for i in one if i < 1 << 31]))
        else:
            raise wrong("prompt", one, "a text or token ids")
    return prompts, texts


def is_ids(value) -> bool:
    return isinstance(value, list) and bool(value) and all(type(i) is int and i >= 0 for i in value)


def or_refuse(work, value, param: str):
    """What `work` makes of a value. Raises ApiError for what it refuses."""
    try:
        with bounded_memory(MEMORY_BYTES):
            return work(value)
    except DataError as error:
        raise ApiError(400, f"{error.problem}; try: {error.remedy}", param) from error
    except RecordRefusal as error:
        raise ApiError(400, error.detail or error.reason, param) from error
    except MemoryError as error:
        raise ApiError(400, "the conversation takes too much memory", param) from error


def read_chat(body, model: ModelTokenizer, room: int) -> Asked:
    """Of /v1/chat/completions. Raises ApiError."""
    given = read_body(body, {"messages", "top_logprobs", "max_completion_tokens"})
    if "max_completion_tokens" in given:
        given["max_tokens"] = given.pop("max_completion_tokens")
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", messages, "a list of messages")
    messages = or_refuse(lambda turns: check_messages("messages", turns), messages, "messages")
    ids = or_refuse(lambda turns: encode_chat(model, turns), messages, "messages")
    asked = make_asked(given, [ids], [""], min(CHAT_TOKENS, max(1, room - len(ids))))
    if read_flag(given, "logprobs"):
        given.setdefault("top_logprobs", 0)
        score(asked, read_number(given, "top_logprobs", int, 0, MOST_LIKELY))
    elif "top_logprobs" in given:
        raise ApiError(400, "top_logprobs needs logprobs: true", "top_logprobs")
    return asked

# SPDX-License-Identifier: Apache-2.0
"""Records of each layout to one: messages with role and content."""

from .errors import RecordRefusal
from .message_parts import MALFORMED, check_messages, normal_calls, parse_json
from .training_flags import is_flag

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_call": "assistant",  # Its text is the call, as JSON.
}
# A key that only one kind of row has, and what to say about a row of that kind.
KINDS = {
    "messages": "set format: messages",
    "conversations": "set format: sharegpt",
    "completion": "set format: prompt_completion",
    "instruction": "set format: instruction",
    "chosen": "set format: preference",
    "question": "set format: question_answer",
    "text": "plain text is for kind pretrain",
}


def read_messages(record: dict, layout: str, name: str) -> list[dict]:
    """The messages of a record, the list of them under `name`. Raises RecordRefusal."""
    if layout == "instruction":
        return from_instruction(record)
    if layout == "sharegpt":
        return from_sharegpt(record, name)
    if layout == "prompt_completion":
        return from_prompt_completion(record)
    if layout == "question_answer":
        return from_question_answer(record)
    if layout == "preference":
        return from_preference(record)
    return check_messages(name, field_list(record, name))


def from_sharegpt(record: dict, name: str) -> list[dict]:
    messages = system_of(record)
    for index, turn in enumerate(field_list(record, name)):
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise RecordRefusal(MALFORMED, f"turn {index} has no text under value")
        speaker = turn.get("from")
        role = SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            raise RecordRefusal(MALFORMED, f"turn {index} is from {speaker!r}")
        message = {"role": role, "content": turn["value"]}
        if speaker == "function_call":
            calls = parse_json(turn["value"], f"value of turn {index}")
            calls = calls if isinstance(calls, list) else [calls]
            message = {"role": role, "content": "", "tool_calls": normal_calls(calls, index)}
        messages.append(message | {key: value for key, value in turn.items() if is_flag(key)})
    return messages


def from_instruction(record: dict) -> list[dict]:
    messages = system_of(record)
    history = record.get("history") or []
    if not isinstance(history, list):
        raise RecordRefusal(MALFORMED, "history is no list of [question, answer]")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all_text(*pair):
            raise RecordRefusal(MALFORMED, "history is no list of [question, answer]")
        messages += question_and_answer(*pair)
    question, extra = record.get("instruction"), record.get("input") or ""
    if not all_text(question, extra, record.get("output")):
        problem = "instruction, input or output is no text"
        raise RecordRefusal(MALFORMED, problem + hint(record, "instruction"))
    if not (question + extra).strip():
        raise RecordRefusal("empty question")
    question = f"{question}\n{extra}" if extra else question
    return messages + question_and_answer(question, record["output"])


def from_question_answer(record: dict) -> list[dict]:
    question, answer = record.get("question"), record.get("answer")
    if not all_text(question, answer):
        problem = "question or answer is no text" + hint(record, "question")
        raise RecordRefusal(MALFORMED, problem + ", or name them under columns")
    if not question.strip():
        raise RecordRefusal("empty question")
    return system_of(record) + question_and_answer(question, answer)


def from_prompt_completion(record: dict) -> list[dict]:
    """Two texts are a question and its answer; of two lists of messages the second is learnt."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if all_text(prompt, completion):
        return question_and_answer(prompt, completion)
    if not isinstance(prompt, list) or not isinstance(completion, list) or not prompt:
        problem = "prompt and completion are neither two texts nor two lists of messages"
        raise RecordRefusal(MALFORMED, problem + hint(record, "completion"))
    return context_of(prompt) + check_messages("completion", completion)


def from_preference(record: dict) -> list[dict]:
    """The chosen side. What it shares with the rejected one is its question, so context only."""
    prompt, chosen, rejected = (record.get(key) for key in ("prompt", "chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(prompt, str):
        return question_and_answer(prompt, chosen)
    if isinstance(chosen, str) and isinstance(prompt, list) and prompt:
        return context_of(prompt) + [{"role": "assistant", "content": chosen}]
    if not isinstance(chosen, list) or not chosen:
        problem = "chosen is neither messages nor text with a prompt" + hint(record, "chosen")
        raise RecordRefusal(MALFORMED, problem)
    chosen = check_messages("chosen", chosen)
    if chosen[0]["role"] == "assistant":  # The question stands under prompt alone.
        if isinstance(prompt, list) and prompt:
            return context_of(prompt) + chosen
        if not isinstance(prompt, str):
            raise RecordRefusal(MALFORMED, "chosen begins with an answer, and prompt is no text")
        return [{"role": "user", "content": prompt}, *chosen]
    num_shared = 0
    others = rejected if isinstance(rejected, list) else []
    for mine, other in zip(record["chosen"][:-1], others, strict=False):
        if mine != other:
            break
        num_shared += 1
    return [as_context(message) for message in chosen[:num_shared]] + chosen[num_shared:]


def question_and_answer(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def context_of(prompt: list) -> list[dict]:
    """The messages of a prompt, none of which is learnt. Raises RecordRefusal."""
    context = [as_context(message) for message in check_messages("prompt", prompt)]
    if context[-1]["role"] == "assistant":
        raise RecordRefusal(MALFORMED, "the prompt ends within the assistant's turn")
    return context


def as_context(message: dict) -> dict:
    return {k: v for k, v in message.items() if not is_flag(k)} | {"train": False}


def all_text(*values) -> bool:
    return all(isinstance(value, str) for value in values)


def system_of(record: dict) -> list[dict]:
    """The system message of layouts that have it in a field of its own."""
    text = record.get("system")
    if text is not None and not isinstance(text, str):
        raise RecordRefusal(MALFORMED, "system is no text")
    return [{"role": "system", "content": text}] if text else []


def field_list(record: dict, name: str) -> list:
    value = record.get(name)
    if not isinstance(value, list) or not value:
        raise RecordRefusal(MALFORMED, f"{name} is no list of messages{hint(record, name)}")
    return value


def hint(record: dict, expected: str) -> str:
    """What a record seems to be that lacks the key its format is named for."""
    if expected in record:
        return ""
    found = [advice for key, advice in KINDS.items() if key in record]
    return f"; {found[0]}" if found else ""

# SPDX-License-Identifier: Apache-2.0
"""Examples as token ids: how a model is asked, with lm-evaluation-harness' cuts between texts."""

from ..chat_template import ChatTemplate, TemplateRefusal
from ..errors import DataError
from ..model_tokenizer import ModelTokenizer
from .examples import Example
from .task_file import Task

Request = tuple[list[int], list[int]]  # context and continuation


class Asking:
    """Encodes for one model. `max_length` is how many positions it has for a text."""

    def __init__(self, model: ModelTokenizer, max_length: int):
        self.model, self.max_length = model, max_length
        bos = model.named_tokens.get("bos_token", "")
        self.bos_text = bos if model.bos_ids else ""
        bos_id = model.tokenizer.token_to_id(bos) if bos else None
        self.first_id = model.eos_id if bos_id is None else bos_id  # of an empty context

    def encode(self, text: str) -> list[int]:
        """With what this tokenizer puts before a text, unless it is there."""
        is_begun = bool(self.bos_text) and text.startswith(self.bos_text)
        before = [] if is_begun else self.model.bos_ids
        return [*before, *self.model.tokenizer.encode(text, add_special_tokens=False).ids]

    def prompt_of(self, task: Task, example: Example) -> str:
        """As the model sees it. Raises DataError."""
        if not task.chat:
            return example.prompt
        if not self.model.chat_template:
            remedy = "leave chat out of the task, or add the model's chat_template.jinja"
            raise DataError(f"task {task.name}: the model has no chat template", remedy)
        system = [{"role": "system", "content": task.system}] if task.system else []
        messages = [*system, {"role": "user", "content": example.prompt}]
        template = ChatTemplate(self.model.chat_template, self.model.named_tokens)
        try:
            return template.render(messages, None, True)
        except TemplateRefusal as refusal:
            problem = f"task {task.name}: {example.place}: the chat template refuses: {refusal}"
            raise DataError(problem, "leave out `system` if that is it") from refusal

    def pair(self, task: Task, example: Example, continuation: str) -> Request:
        """White space at the prompt's end belongs to the continuation. Raises DataError."""
        prompt = self.prompt_of(task, example)
        context = prompt.rstrip()
        continuation = prompt[len(context) :] + task.separator + continuation
        if context:
            whole, first = self.encode(context + continuation), self.encode(context)
            request = first, whole[len(first) :]
        else:
            if self.first_id is None:
                remedy = "name eos_token or bos_token in tokenizer_config.json, or give a prompt"
                raise DataError(f"{example.place}: an empty prompt needs a first token", remedy)
            ids = self.model.tokenizer.encode(continuation, add_special_tokens=False).ids
            request = [self.first_id], ids
        self.require_fits(task, example, len(request[0]) + len(request[1]) - 1)
        if not request[1]:
            remedy = "let the prompt end at a whole word, or set the task's separator"
            raise DataError(f"{example.place}: no token of {continuation!r} is its own", remedy)
        return request

    def question(self, task: Task, example: Example) -> list[int]:
        """A prompt that is answered by generation. Raises DataError."""
        ids = self.encode(self.prompt_of(task, example))
        if not ids:
            raise DataError(f"{example.place}: the prompt is empty", "give each example a prompt")
        self.require_fits(task, example, len(ids) + task.max_new_tokens)
        return ids

    def require_fits(self, task: Task, example: Example, count: int) -> None:
        if count <= self.max_length:
            return
        problem = f"task {task.name}: {example.place} takes {count} positions"
        remedy = "shorten the prompt" + (" or max_new_tokens" if task.max_new_tokens else "")
        raise DataError(f"{problem}, and the model has {self.max_length} for a text", remedy)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lm-evaluation-harness on `temper score` and `temper generate`.

    lm_eval_model.py --model FOLDER --tasks ... [--adapter FOLDER] [--ranks N] [--dtype DTYPE] ...

All other options are those of `lm-eval run`. Figures are those of its own model `hf` on the same
weights: texts are encoded, cut to the model's positions and scored as there.
"""

import argparse
import json
import sys
from pathlib import Path

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
    has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text,
)  # fmt: skip
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from temper_data.chat_template import ChatTemplate
from temper_data.errors import DataError
from temper_data.model_runner import ModelRunner, TemperFailed
from temper_data.model_tokenizer import load_model_tokenizer

SAMPLING = {
    name: "--" + name.replace("_", "-")
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
}


@register_model("temper")
class TemperModel(TemplateLM):
    """A model folder, and an adapter on it if one is named, on `ranks` ranks of this machine."""

    def __init__(self, path: str, adapter: str = "", ranks: int = 1, dtype: str = "auto", **_):
        # Batches and the device, which the harness names to every model, are temper's own affair.
        super().__init__()
        self.path = Path(path)
        self.runner = ModelRunner(self.path, adapter, int(ranks), dtype)
        self.model = load_model_tokenizer(self.path)
        named = self.model.named_tokens
        self.bos_id = self.model.tokenizer.token_to_id(named.get("bos_token", ""))
        self.max_length = self.runner.max_length

    @property
    def eot_token_id(self) -> int | None:
        return self.model.eos_id

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is: the token that texts begin with, else that which ends them."""
        return self.model.eos_id if self.bos_id is None else self.bos_id

    @property
    def tokenizer_name(self) -> str:
        return str(self.path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self.model.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt=True) -> str:
        if not add_generation_prompt:
            raise DataError("the task begins answers itself (gen_prefix)", "leave that out")
        template = ChatTemplate(self.model.chat_template or "", self.model.named_tokens)
        return template.render(chat_history, None, True)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        """With what this tokenizer puts before a text, unless it is there or not wanted."""
        first = [] if self.prefix_token_id is None else [self.prefix_token_id]
        text_of_first = self.model.tokenizer.decode(first, skip_special_tokens=False) or None
        is_begun = add_special_tokens is None and has_bos_prefix(string, text_of_first)
        before = [] if is_begun or add_special_tokens is False else self.model.bos_ids
        return [*before, *self.model.tokenizer.encode(string, add_special_tokens=False).ids]

    def _loglikelihood_tokens(self, requests, **_) -> list[tuple[float, bool]]:
        pairs = []
        for _, context, continuation in requests:
            text = (context + continuation)[-self.max_length - 1 :]  # Without the last one.
            pairs.append((text[: -len(continuation)], text[-len(continuation) :]))
        answers = self.runner.score(pairs)
        for (texts, *_), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        windows = []  # (which request, context, continuation)
        for index, request in enumerate(requests):
            tokens = self.tok_encode(*request.args)
            rolling = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1)
            windows += [(index, *make_disjoint_window(window)) for window in rolling]
        scores = self._loglikelihood_tokens([(None, *window[1:]) for window in windows])
        sums = [0.0] * len(requests)
        for (index, *_), (logprob, _) in zip(windows, scores, strict=True):
            sums[index] += logprob
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Of all requests with the same settings at once; texts are cut where they should stop."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        answers = [""] * len(requests)
        for settings, members in groups.items():
            texts = [requests[index].args[0] for index in members]
            group = self.generate(texts, json.loads(settings))
            for index, answer in zip(members, group, strict=True):
                answers[index] = answer
                self.cache_hook.add_partial("generate_until", requests[index].args, answer)
        return answers

    def generate(self, texts: list[str], settings: dict) -> list[str]:
        """Answers to prompts. Raises DataError for settings that `temper generate` has not."""
        wanted = normalize_gen_kwargs(settings, 256)
        stops, count = wanted.pop("until") or [], wanted.pop("max_gen_toks")
        is_sampled = wanted.pop("do_sample", False)
        unknown = sorted(set(wanted) - set(SAMPLING))
        if unknown:
            raise DataError(f"temper generate cannot do {unknown}", "leave them out of the task")
        options = [word for key, name in SAMPLING.items() if is_sampled and key in wanted
                   for word in (name, wanted[key])]  # fmt: skip
        room = self.max_length - count
        prompts = [self.tok_encode(text)[-room:] for text in texts]
        lines = self.runner.generate(prompts, count, *options)
        answers = (self.model.tokenizer.decode(tokens) for tokens in lines)
        return [postprocess_generated_text(answer, stops, None) for answer in answers]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", required=True, help="Hugging Face model folder")
    parser.add_argument("--adapter", default="", help="the folder of an adapter, as peft has it")
    parser.add_argument("--ranks", type=int, default=1, help="of temper score, on this machine")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    arguments, others = parser.parse_known_args()
    arguments.path = arguments.__dict__.pop("model")
    model_args = json.dumps(vars(arguments))
    sys.argv = ["lm-eval", "run", "--model", "temper", "--model_args", model_args, *others]
    try:
        cli_evaluate()
    except (DataError, TemperFailed) as error:
        print(f"lm-eval: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

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
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.temper_program import (
    TemperFailed,
    TemperProgram,
    max_length,
    weights_options,
)

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@register_model("temper")
class TemperModel(TemplateLM):
    """A model folder, and an adapter on it if one is named, on `ranks` ranks of this machine."""

    def __init__(self, path: str, adapter: str = "", ranks: int = 1, dtype: str = "auto", **_):
        # Batches and the device, which the harness names to every model, are temper's own affair.
        super().__init__()
        self.path = Path(path)
        self.program = TemperProgram(self.path, int(ranks), weights_options(adapter, dtype))
        self.model = load_model_tokenizer(self.path)
        named = self.model.named_tokens
        self.bos_id = self.model.tokenizer.token_to_id(named.get("bos_token", ""))
        self.max_length = max_length(self.path, adapter)

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
        asked = []
        for _, context, continuation in requests:
            count = len(continuation)
            text = (context + continuation)[-self.max_length - 1 :]  # Without the last one.
            asked.append({"context": text[:-count], "continuation": text[-count:]})
        lines = self.program.answer("score", asked)
        answers = [(line["logprob"], line["greedy"]) for line in lines]
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
        """Texts are cut where they should stop."""
        asked, stops = [], []
        for request in requests:
            settings, until = self.settings_of(request.args[1])
            room = self.max_length - settings["max_tokens"]
            asked.append(settings | {"prompt": self.tok_encode(request.args[0])[-room:]})
            stops.append(until)
        answers, lines = [], self.program.answer("generate", asked)
        for request, until, line in zip(requests, stops, lines, strict=True):
            text = self.model.tokenizer.decode(line["answers"][0]["ids"])
            answers.append(postprocess_generated_text(text, until, None))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def settings_of(self, settings: dict) -> tuple[dict, list[str]]:
        """As `temper generate` has them, and texts to stop at. Raises DataError for those that it
        has not."""
        wanted = normalize_gen_kwargs(dict(settings), 256)
        stops, count = wanted.pop("until") or [], wanted.pop("max_gen_toks")
        is_sampled = wanted.pop("do_sample", False)
        unknown = sorted(set(wanted) - set(SAMPLING))
        if unknown:
            raise DataError(f"temper generate cannot do {unknown}", "leave them out of the task")
        return {"max_tokens": count} | (wanted if is_sampled else {}), stops


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

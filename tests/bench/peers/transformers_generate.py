# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of transformers.generate to a job on standard input, as harness/generate.py has
it; prints seconds, processor time and the answers."""

import json
import sys

import torch
import transformers
from stopwatch import Stopwatch


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    dtype = getattr(torch, job["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).eval()
    prompts = torch.tensor(job["prompts"])

    def answer(count: int) -> torch.Tensor:
        return model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=count, do_sample=False,
            pad_token_id=0,
        )[:, prompts.shape[1] :]  # fmt: skip

    answer(job["warm_up_tokens"])
    watch = Stopwatch()
    answers = answer(job["new_tokens"])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(watch.read() | {"answers": answers.tolist(), "versions": versions}))


if __name__ == "__main__":
    main()

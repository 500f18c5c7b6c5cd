# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of llama.cpp to a job on standard input, as harness/generate.py has it, of the
GGUF file that `gguf` names; prints seconds, processor time and how many tokens were made. Needs the
PyPI package xllamacpp, which brings llama.cpp built for the processor that it meets."""

import json
import sys
from importlib.metadata import version

import xllamacpp
from stopwatch import Stopwatch


def start(job: dict) -> xllamacpp.Server:
    """A server whose slots take all prompts at once."""
    params = xllamacpp.CommonParams()
    params.model.path, params.warmup, params.verbosity = job["gguf"], False, -1
    params.n_parallel = len(job["prompts"])
    tokens = len(job["prompts"][0]) + max(job["new_tokens"], job["warm_up_tokens"]) + 1
    params.n_ctx = params.n_parallel * -(-tokens // 256) * 256
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    return xllamacpp.Server(params)


def main() -> None:
    job = json.load(sys.stdin)
    server = start(job)

    def answer(count: int) -> int:
        asked = {
            "prompt": job["prompts"], "n_predict": count, "temperature": 0.0, "samplers": ["top_k"],
            "top_k": 1, "ignore_eos": True, "cache_prompt": False,
        }  # fmt: skip
        answers = server.handle_completions(asked)
        answers = json.loads(answers) if isinstance(answers, str) else answers
        return count * sum(one["finish_reason"] == "length" for one in answers["choices"])

    answer(job["warm_up_tokens"])
    watch = Stopwatch()
    made = answer(job["new_tokens"])
    versions = {"llama.cpp (xllamacpp)": version("xllamacpp")}
    print(json.dumps(watch.read() | {"tokens": made, "answers": None, "versions": versions}))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Prepares a file with `datasets`, as people do, and says how long it took.

    prepare.py <way> <model> <file> <processes> <output>

Ways: `map`, the model's template and tokenizer; `map-text`, the tokenizer alone; `trl`, what
SFTTrainer does with conversations before it trains, which has labels, too. Caches of `datasets` are
below <output>. Prints a line of JSON: seconds without imports, by the clock and of all processors,
and tokens.
"""

import json
import os
import sys
from pathlib import Path

way, model, file, processes, output = sys.argv[1:]
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_CACHE": str(Path(output) / "cache"),
    "TOKENIZERS_PARALLELISM": "false",  # Processes share the work.
    "TQDM_DISABLE": "1",
}

from datasets import load_dataset  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

tokenizer = AutoTokenizer.from_pretrained(model)


def encode_conversation(example: dict) -> dict:
    ids = tokenizer.apply_chat_template(example["messages"], tokenize=True, return_dict=False)
    return {"input_ids": ids}


def encode_texts(batch: dict) -> dict:
    return {"input_ids": tokenizer(batch["text"])["input_ids"]}


def map_all(data):
    columns = data.column_names
    if way == "map":
        return data.map(encode_conversation, remove_columns=columns, num_proc=int(processes))
    return data.map(encode_texts, batched=True, remove_columns=columns, num_proc=int(processes))


def prepare_as_trl(data):
    """`SFTTrainer`'s own method. All tokens are labels: the answers alone need a template with
    generation tags."""
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=output, dataset_num_proc=int(processes),
        max_length=None, use_cpu=True, bf16=False, report_to="none",
    )  # fmt: skip
    trainer = object.__new__(SFTTrainer)  # Without a model, which the method does not look at.
    trainer._tokenizer = tokenizer
    trainer.completion_only_loss = True
    trainer.chat_template = tokenizer.chat_template
    return trainer._prepare_dataset(data, tokenizer, arguments, False, None, "train")


watch = Stopwatch()
made = load_dataset("json", data_files=file, split="train")
made = prepare_as_trl(made) if way == "trl" else map_all(made)
times = watch.read()
tokens = sum(map(len, made.with_format("numpy")["input_ids"][:]))
print(json.dumps(times | {"tokens": tokens, "documents": len(made)}))

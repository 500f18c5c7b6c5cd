# SPDX-License-Identifier: Apache-2.0
"""Trains the real model, kills the job twice, resumes it on other numbers of ranks, and compares.

The disturbed run must end with the bits of the undisturbed one, in its loss curve and in its
weights; the result must open in transformers and give temper's own loss there.
"""

import hashlib
import os
import signal
from pathlib import Path

import torch
import workspace
from transformers import AutoModelForCausalLM, AutoTokenizer

SEQUENCE_LENGTH = 32  # Bits depend on it no more than on the rest of the model, which is whole.
NUM_ROWS = 3  # One a rank, then 2 and 1, then 3: as each is exchanged in full, more cost seconds.


def train_with_two_kills(config: Path) -> None:
    """Two ranks until step 2 is saved, three until step 4 is, one to the end."""
    for ranks, step, stage in ((2, 2, 3), (3, 4, 2)):
        job = workspace.start(ranks, "train", config, f"parallel.stage={stage}")
        workspace.wait_for_checkpoint(config, step)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    workspace.run(1, "train", config, "train.threads=2")


def weights_digest(folder: Path) -> str:
    """SHA-256 over the exported weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_same_result(one: Path, other: Path) -> None:
    """Compares loss curve and final weights bit for bit."""
    for key in ("step", "loss", "grad_norm", "num_targets"):
        expected = [line[key] for line in workspace.step_lines(one)]
        found = [line[key] for line in workspace.step_lines(other)]
        assert len(expected) == workspace.NUM_STEPS, expected
        assert found == expected, f"{key} differs:\n  {expected}\n  {found}"
    finals = [workspace.run_folder(config) / "final" for config in (one, other)]
    assert weights_digest(finals[0]) == weights_digest(finals[1]), "final weights differ"


def check_transformers_opens(final: Path) -> None:
    """The export is a model that transformers loads without a word and that still speaks."""
    model, loading = AutoModelForCausalLM.from_pretrained(
        final, dtype=torch.float32, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
    tokenizer = AutoTokenizer.from_pretrained(final)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    text = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])
    assert "Paris" in text, text


def main() -> None:
    model, shard = workspace.prepare()
    undisturbed, disturbed = (
        workspace.write_config(name, model, shard, SEQUENCE_LENGTH, NUM_ROWS)
        for name in ("undisturbed", "disturbed")
    )
    workspace.run(2, "train", undisturbed)
    train_with_two_kills(disturbed)
    check_same_result(undisturbed, disturbed)
    check_transformers_opens(workspace.run_folder(disturbed) / "final")


if __name__ == "__main__":
    main()

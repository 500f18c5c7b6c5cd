# SPDX-License-Identifier: Apache-2.0
"""LoRA and QLoRA beside peft: training, files in both directions, hold-out loss, merging.

For tiny models of several families an adapter that peft wrote is trained for twenty steps by temper
on two ranks and by peft with torch's AdamW. Compared are loss, gradient norm and learning rate of
each step, every trained tensor, the hold-out loss of the saved adapter, and merged weights. For
QLoRA the base that peft sees is what bitsandbytes makes of the one that temper quantises.
"""

import json
import shutil
from pathlib import Path

import foreign_adapters
import numpy as np
import peft
import same_as_transformers as full
import torch
import workspace
from lora_cases import CASES
from quantised_blocks import quantise_blocks
from safetensors.torch import load_file
from same_as_transformers import family_files, family_results, tiny_families


def write_start(folder: Path, base, options: dict, quantisation) -> peft.PeftModel:
    """Saves an adapter whose B is not zero, so that A has a gradient from the start."""
    quantise_blocks(base, quantisation)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.05)
    model.save_pretrained(folder / "start")
    # peft sorts the keys when it saves them, and goes by their order when it loads them.
    rewrite_config(folder / "start", alpha_pattern=options.get("alpha_pattern", {}))
    return model


def rewrite_config(adapter: Path, **changes) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_config(folder: Path, options: str, start: Path | None) -> Path:
    """`options` are lines of the configuration that say what is trained, from which adapter on."""
    text = full.CONFIG.format(
        folder=folder / "run",
        model=folder / "model",
        shard=folder / "train.h5",
        length=full.LENGTH,
        rows=full.ROWS,
        steps=full.STEPS,
        max_norm=full.MAX_NORM,
        rate=full.LEARNING_RATE,
        decay=full.WEIGHT_DECAY,
        warmup=full.WARMUP,
    )
    path = folder / "run.yaml"
    adapter = f"adapter: {{start: {start}}}\n" if start else ""
    path.write_text(text + options + adapter)
    return path


def check_training(name: str, config: Path, model: peft.PeftModel, tokens: torch.Tensor) -> None:
    """Trains both ways. Leaves what temper trained in run/final."""
    workspace.run(2, "train", config)
    expected = full.train_in_transformers(model, lambda model: full.mean_loss(model, tokens))
    found = workspace.step_lines(config)
    full.assert_same_steps(name, found, expected)
    assert found[-1]["loss"] < found[0]["loss"]
    ours = load_file(config.parent / "run" / "final" / "adapter_model.safetensors")
    theirs = peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, tensor in ours.items():
        assert torch.allclose(tensor, theirs[key], rtol=1e-3, atol=2e-4), f"{name}: {key}"


def load_in_peft(folder: Path, quantisation=None) -> peft.PeftModel:
    base = family_files.open_model(folder / "model", dtype=torch.float32)
    quantise_blocks(base, quantisation)
    return peft.PeftModel.from_pretrained(base, folder / "run" / "final")


def write_evaluation(folder: Path) -> Path:
    """A configuration that evaluates what was trained on the documents that it was trained on."""
    text = (folder / "run.yaml").read_text()
    text = text.replace(str(folder / "start"), str(folder / "run/final"))
    text = text.replace(str(folder / "train.h5"), "elsewhere.h5")  # Else it is no hold-out.
    holdout = f"  holdout: [{{name: same, path: {folder / 'train.h5'}}}]\n"
    path = folder / "eval.yaml"
    path.write_text(text.replace("data:\n", "data:\n" + holdout))
    return path


def check_saved(name: str, folder: Path, tokens: torch.Tensor, quantisation) -> None:
    """The saved adapter has the same loss here and in peft."""
    line = workspace.output(2, "eval", write_evaluation(folder)).splitlines()[-1]
    ours = float(line.split("loss=")[1].split()[0])
    with torch.no_grad():
        theirs = full.mean_loss(load_in_peft(folder, quantisation), tokens).item()
    assert abs(ours - theirs) <= 1e-6 * theirs, f"{name}: loss {ours}, in peft {theirs}"


def merge_in_peft(base: Path, adapter: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = family_files.open_model(base, dtype=dtype)
    model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    return model.state_dict()


def check_merged(name: str, folder: Path, dtype: torch.dtype) -> None:
    """Merging gives the bits of peft's safe merge; undoing it those of the base.

    For a narrow dtype peft rounds what it adds before it adds it; temper rounds the sum alone: it
    has the bits of peft's fp32 merge of that base, rounded.
    """
    base = folder / f"model-{dtype}"
    family_files.open_model(folder / "model", dtype=dtype).save_pretrained(base)
    shutil.copy(folder / "model/tokenizer.json", base)
    adapter = folder / f"adapter-{dtype}"  # Of peft's own files: they name no base.
    shutil.copytree(folder / "run/final", adapter)
    (adapter / "base.json").unlink()
    merged, restored = folder / f"merged-{dtype}", folder / f"restored-{dtype}"
    workspace.output(1, "merge", base, adapter, merged)
    expected, narrow = (merge_in_peft(base, adapter, one) for one in (torch.float32, dtype))
    found = family_files.open_model(merged, dtype="auto").state_dict()
    for key, tensor in expected.items():
        own = narrow[key].dtype  # Of some tensors always fp32.
        assert found[key].dtype == own, f"{name}: {key}"
        assert torch.equal(found[key], tensor.to(own)), f"{name}: {key}"
        assert torch.allclose(found[key], narrow[key], rtol=0.02, atol=1e-3), f"{name}: {key}"

    workspace.output(1, "merge", "--undo", merged, restored)
    before, after = load_file(base / "model.safetensors"), load_file(restored / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def check_case(name: str, family: str, options: dict, ours: str, quantisation) -> None:
    folder, base, tokens = new_case(name, family)
    model = write_start(folder, base, options, quantisation)
    method = f"method: lora\nlora: {{{ours}}}\n"
    if quantisation:
        kind, is_double = quantisation
        method = method.replace("method: lora", "method: qlora")
        method += f"quantise: {{type: {kind}, double: {str(is_double).lower()}}}\n"
    config = write_config(folder, method, folder / "start")
    check_training(name, config, model, tokens)
    check_saved(name, folder, tokens, quantisation)
    for dtype in (torch.float32, torch.bfloat16):
        check_merged(name, folder, dtype)
    if tiny_families.num_experts(base.config.get_text_config()) is not None:
        column = "QLoRA" if quantisation else "LoRA"
        told = f"{full.STEPS} steps" + (f" on {quantisation[0]}" if quantisation else "")
        family_results.record(column, base.config.model_type, f"{told}, beside experts")
        family_results.record("merging", base.config.model_type, "bits of peft's")


def new_case(name: str, family: str) -> tuple[Path, torch.nn.Module, torch.Tensor]:
    """An empty folder with a random base and a shard; the base; the shard's tokens."""
    folder = workspace.FOLDER / "lora" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    base = full.write_base(folder, full.FAMILIES[family])
    tokens = np.random.default_rng(5).integers(0, full.VOCABULARY, (full.ROWS, full.LENGTH))
    full.write_shard(folder / "train.h5", tokens, folder / "model" / "tokenizer.json")
    return folder, base, torch.from_numpy(tokens)


def check_start() -> None:
    """What begins with the base's numbers begins with those of peft: the rate rounds to 0."""
    folder, base, _ = new_case("start", "qwen3")
    options = "method: lora\nlora: {use_dora: true, targets: [q_proj, down_proj], "
    options += "modules_to_save: [lm_head, norm], trainable_tokens: [7, 3]}\n"
    config = write_config(folder, options, None)
    workspace.run(2, "train", config, "train.max_steps=1", "schedule.warmup_steps=0",
                  "optimizer.learning_rate=1e-60")  # fmt: skip
    model = peft.get_peft_model(
        base,
        peft.LoraConfig(
            r=16,
            use_dora=True,
            target_modules=["q_proj", "down_proj"],
            modules_to_save=["lm_head", "norm"],
            trainable_token_indices=[7, 3],
        ),
    )
    ours = load_file(folder / "run" / "final" / "adapter_model.safetensors")
    theirs = peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, tensor in theirs.items():
        if "lora_A" not in key:
            assert torch.allclose(ours[key], tensor, rtol=1e-6, atol=0), key


PISSA = {  # name: what peft is told, the same for temper
    "pissa": (dict(r=4, lora_alpha=6), "rank: 4, alpha: 6"),
    "pissa_decomposed": (
        dict(r=6, lora_alpha=5, use_rslora=True, use_dora=True, rank_pattern={"v_proj": 2}),
        "rank: 6, alpha: 5, use_rslora: true, use_dora: true, "
        "rank_pattern: [{module: v_proj, rank: 2}]",
    ),
}


def check_pissa(name: str, options: dict, ours: str) -> None:
    """PiSSA, which changes the base, beside peft's; the adapter that it publishes is one of twice
    the rank on the base as it was."""
    folder, base, tokens = new_case(name, "llama_biases")
    kwargs = dict(target_modules="all-linear", init_lora_weights="pissa", **options)
    model = peft.get_peft_model(base, peft.LoraConfig(**kwargs))
    config = write_config(folder, f"method: lora\nlora: {{{ours}, init: pissa}}\n", None)
    workspace.run(2, "train", config)
    full.assert_same_steps(
        name,
        workspace.step_lines(config),
        full.train_in_transformers(model, lambda model: full.mean_loss(model, tokens)),
    )
    saved = load_in_peft(folder)
    assert saved.peft_config["default"].r == 2 * options["r"]
    with torch.no_grad():
        found, theirs = (full.mean_loss(one, tokens).item() for one in (saved, model))
    assert abs(found - theirs) <= 1e-4 * theirs, f"loss {found}, in peft {theirs}"
    check_merged(name, folder, torch.float32)


def main() -> None:
    foreign_adapters.check()
    check_start()
    for name, case in PISSA.items():
        check_pissa(name, *case)
    for name, case in CASES.items():
        check_case(name, *case)


if __name__ == "__main__":
    main()

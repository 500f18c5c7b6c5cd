# SPDX-License-Identifier: Apache-2.0
"""Adapters that are combined by weights, beside peft's add_weighted_adapter."""

import hashlib
import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import assert_refused, temper, write_model
from transformers import AutoModelForCausalLM

CONFIGURATION, MODEL = 11, 13
DENSITY, SEED = 0.6, 5
PLAIN = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}
OTHER = {"r": 4, "lora_alpha": 9, "target_modules": ["q_proj", "down_proj", "up_proj"],
         "use_rslora": True}  # fmt: skip


def write_adapter(folder: Path, base: Path, options: dict, seed: int) -> Path:
    """As peft saves it, with a random B."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("combined")
    base = write_model(folder / "model")
    write_adapter(folder / "a", base, PLAIN, 1)
    write_adapter(folder / "b", base, OTHER, 2)
    write_adapter(folder / "c", base, PLAIN, 3)
    return folder


def merge(folder: Path, adapters: dict[str, float], destination: Path, *options):
    """Runs temper with adapters by their names in the folder."""
    each = [text for name, weight in adapters.items()
            for text in ("--adapter", folder / name, "--weight", weight)]  # fmt: skip
    return temper("merge", *each, *options, folder / "model", destination)


def in_peft(folder: Path, adapters: dict[str, float], **options) -> peft.PeftModel:
    """The model with the combined adapter active, under the name `all`."""
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    first, *others = adapters
    model = peft.PeftModel.from_pretrained(base, folder / first, adapter_name=first)
    for name in others:
        model.load_adapter(folder / name, adapter_name=name)
    model.add_weighted_adapter(list(adapters), list(adapters.values()), "all", **options)
    model.set_adapter("all")
    return model


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-6, atol=1e-6), name


def tensors_of(adapter: Path) -> dict:
    return load_file(adapter / "adapter_model.safetensors")


def combine(folder: Path, adapters: dict[str, float], destination: Path, *options) -> dict:
    done = merge(folder, adapters, destination, *options, "--as-adapter")
    assert done.returncode == 0, done.stderr
    return tensors_of(destination)


@pytest.mark.parametrize(
    "adapters, ours, theirs",
    [
        ({"a": 0.7, "b": 0.3}, [], {"combination_type": "linear"}),
        ({"a": -0.5, "b": 1.5, "c": 0.25}, [], {"combination_type": "linear"}),
        ({"b": 0.5}, [], {"combination_type": "linear"}),
        (
            {"a": 0.7, "b": 0.3, "c": -1.0},
            ["--combine", "ties", "--density", DENSITY],
            {"combination_type": "ties", "density": DENSITY},
        ),
        (
            {"a": 0.7, "b": 0.6, "c": 0.5},
            ["--combine", "ties", "--density", "0.45", "--majority", "frequency"],
            {"combination_type": "ties", "density": 0.45, "majority_sign_method": "frequency"},
        ),
        (
            {"a": 0.7, "c": 0.6},
            ["--combine", "ties", "--density", "1"],
            {"combination_type": "ties", "density": 1.0},
        ),
    ],
)
def test_the_tensors_are_those_of_peft(folder, tmp_path, adapters, ours, theirs):
    found = combine(folder, adapters, tmp_path / "all", *ours)
    model = in_peft(folder, adapters, **theirs)
    assert_same(found, peft.get_peft_model_state_dict(model, adapter_name="all"))


def philox(key: int, index: np.ndarray) -> np.ndarray:
    """Philox 4x32-10: two of the four words, as 64 bits."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    zero = np.zeros_like(index)
    x = [index & low, index >> high, zero, zero]
    keys = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        first, second = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(second >> high) ^ x[1] ^ np.uint64(keys[0]), second & low,
             (first >> high) ^ x[3] ^ np.uint64(keys[1]), first & low]  # fmt: skip
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return (x[1] << high) | x[0]


def mask(name: str, place: int, shape: tuple[int, ...]) -> torch.Tensor:
    """What is kept of a tensor of the adapter that is the `place`-th of those that have it."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") ^ SEED
    size = int(np.prod(shape))
    words = philox(key, np.arange(place * size, (place + 1) * size, dtype=np.uint64))
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53 < DENSITY).reshape(shape).float()


def masks(folder: Path, adapters: dict[str, float]) -> list[torch.Tensor]:
    """In the order in which peft draws them: module by module, A before B."""
    tensors = [tensors_of(folder / name) for name in adapters]
    model = in_peft(folder, adapters, combination_type="linear")
    drawn = []
    for module, layer in model.named_modules():
        for part in ("lora_A", "lora_B") if isinstance(layer, peft.tuners.lora.LoraLayer) else ():
            name = f"{module}.{part}.weight"
            having = [one[name] for one in tensors if name in one]
            drawn += [mask(name, place, one.shape) for place, one in enumerate(having)]
    return drawn


DARE = ["--density", str(DENSITY), "--seed", str(SEED)]


@pytest.mark.parametrize("kind, majority", [("dare_linear", "total"), ("dare_ties", "total"),
                                            ("dare_ties", "frequency")])  # fmt: skip
def test_random_numbers_are_kept_as_peft_would_keep_them(
    folder, tmp_path, monkeypatch, kind, majority
):
    adapters = {"a": 0.7, "b": 0.6, "c": -0.5}
    options = ["--majority", majority] if kind == "dare_ties" else []
    found = combine(folder, adapters, tmp_path / "all", "--combine", kind, *DARE, *options)
    drawn = masks(folder, adapters)
    monkeypatch.setattr(torch, "bernoulli", lambda _: drawn.pop(0))
    model = in_peft(
        folder, adapters, combination_type=kind, density=DENSITY, majority_sign_method=majority
    )
    assert not drawn
    assert_same(found, peft.get_peft_model_state_dict(model, adapter_name="all"))


def test_the_density_is_the_share_that_is_kept(folder, tmp_path):
    """Of each adapter; that both are kept is as often as chance has it."""
    adapters = {"a": 1.0, "c": 1.0}
    found = combine(folder, adapters, tmp_path / "all", "--combine", "dare_linear", *DARE)
    scale = (PLAIN["lora_alpha"] / PLAIN["r"]) ** 0.5 / DENSITY
    a, c = (tensors_of(folder / name) for name in adapters)
    kept = {"none": 0, "a": 0, "c": 0, "both": 0}
    for name, tensor in found.items():
        for what, sum_of in {"none": 0 * a[name], "a": a[name], "c": c[name],
                             "both": a[name] + c[name]}.items():  # fmt: skip
            kept[what] += torch.isclose(tensor, sum_of * scale, rtol=1e-5, atol=1e-7).sum().item()
    total = sum(tensor.numel() for tensor in found.values())
    assert sum(kept.values()) == total > 800
    for what, chance in {"none": (1 - DENSITY) ** 2, "a": DENSITY * (1 - DENSITY),
                         "c": DENSITY * (1 - DENSITY), "both": DENSITY**2}.items():  # fmt: skip
        deviation = (total * chance * (1 - chance)) ** 0.5
        assert abs(kept[what] - total * chance) < 4.5 * deviation, (what, kept)


def test_a_seed_gives_the_same_bytes_and_another_others(folder, tmp_path):
    options = ("--combine", "dare_ties", "--density", "0.5", "--seed")
    files = []
    for number, seed in enumerate((1, 1, 2)):
        combine(folder, {"a": 1, "b": 1}, tmp_path / str(number), *options, seed)
        files.append((tmp_path / str(number) / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_peft_loads_the_combined_adapter_and_computes_the_same(folder, tmp_path):
    combine(folder, {"a": 0.7, "b": 0.3}, tmp_path / "all")
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "all")
    tokens = torch.arange(1, 30).view(1, -1)
    expected = in_peft(folder, {"a": 0.7, "b": 0.3}, combination_type="linear")(tokens).logits
    assert torch.allclose(loaded(tokens).logits, expected, atol=1e-5)
    assert (tmp_path / "all" / "base.json").exists()


def test_they_are_merged_into_the_base_and_that_is_undone(folder, tmp_path):
    done = merge(folder, {"a": 0.7, "c": 0.3}, tmp_path / "merged", "--combine", "ties",
                 "--density", DENSITY)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "combined=ties base=dense" in done.stdout
    model = in_peft(folder, {"a": 0.7, "c": 0.3}, combination_type="ties", density=DENSITY)
    expected = model.merge_and_unload(adapter_names=["all"]).state_dict()
    del expected["lm_head.weight"]  # Tied.
    assert_same(load_file(tmp_path / "merged/model.safetensors"), expected)
    assert temper("merge", "--undo", tmp_path / "merged", tmp_path / "restored").returncode == 0
    before, after = (load_file(one / "model.safetensors")
                     for one in (folder / "model", tmp_path / "restored"))  # fmt: skip
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_module_is_lost(folder, tmp_path):
    """Blocks and ranks by module that no one list of names can say."""
    write_adapter(folder / "upper", folder / "model", OTHER | {"layers_to_transform": [1]}, 4)
    patterns = PLAIN | {"rank_pattern": {"v_proj": 2}}
    write_adapter(folder / "patterns", folder / "model", patterns, 5)
    found = combine(folder, {"upper": 1.0, "patterns": 1.0}, tmp_path / "all")
    upper, patterns = (tensors_of(folder / name) for name in ("upper", "patterns"))
    assert found.keys() == upper.keys() | patterns.keys()
    for name in found.keys() - patterns.keys():  # The scale is 9 / sqrt(4).
        assert torch.allclose(found[name], upper[name] * 4.5**0.5), name
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "all")
    assert_same(peft.get_peft_model_state_dict(loaded), found)
    assert all(scale == 1.0 for module in loaded.modules()
               if isinstance(module, peft.tuners.lora.LoraLayer)
               for scale in module.scaling.values())  # fmt: skip


@pytest.mark.parametrize(
    "options, message",
    [
        ({"r": 8}, "have the ranks 4 and 8, which cannot be combined"),
        ({"rank_pattern": {"q_proj": 8}}, "have the ranks 4 and 8, which cannot be combined"),
        ({"rank_pattern": {"q_proj": 2}}, "q_proj has rank 2 in the adapter in "),
        ({"target_modules": ".*q_proj"}, "one names its target_modules in a list and one by an"),
    ],
)
def test_what_peft_refuses_is_refused(folder, tmp_path, options, message):
    write_adapter(tmp_path / "a", folder / "model", PLAIN, 1)
    write_adapter(tmp_path / "b", folder / "model", PLAIN | options, 2)
    (tmp_path / "model").symlink_to(folder / "model")
    with pytest.raises((ValueError, RuntimeError)):
        in_peft(tmp_path, {"a": 1.0, "b": 1.0}, combination_type="linear")
    done = merge(tmp_path, {"a": 1.0, "b": 1.0}, tmp_path / "all", "--as-adapter")
    assert_refused(done, CONFIGURATION, message, str(tmp_path / "b"))
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--combine", "ties"], "--combine ties wants a density in (0, 1]"),
        (["--combine", "ties", "--density", "0"], "wants a density in (0, 1], not 0"),
        (["--combine", "dare_ties", "--density", "1.5"], "wants a density in (0, 1], not 1.5"),
        (["--density", "0.5"], "--density has no effect: adapters are combined by linear"),
        (["--majority", "total"], "--majority has no effect"),
        (["--combine", "ties", "--density", "0.5", "--seed", "3"], "--seed has no effect"),
        (["--weight", "0.5"], "temper merge got 3 weights for 2 adapters"),
        (["--as-adapter", "--base", "dense"], "--base has no effect: no base is merged"),
    ],
)
def test_options_that_mean_nothing_are_refused(folder, tmp_path, options, message):
    done = merge(folder, {"a": 0.5, "b": 0.5}, tmp_path / "all", *options)
    assert_refused(done, CONFIGURATION, message)


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"modules_to_save": ["norm"]}, {"trainable_token_indices": [3]}]
)
def test_more_than_additions_is_not_combined(folder, tmp_path, options):
    write_adapter(tmp_path / "more", folder / "model", PLAIN | options, 1)
    done = temper("merge", "--adapter", folder / "a", "--weight", 1, "--adapter",
                  tmp_path / "more", "--weight", 1, folder / "model", tmp_path / "all")  # fmt: skip
    assert_refused(done, CONFIGURATION, f"{tmp_path / 'more'} has more than low-rank additions")


def test_one_adapter_is_combined_linearly_only(folder, tmp_path):
    done = merge(folder, {"a": 0.5}, tmp_path / "all", "--combine", "ties", "--density", "0.5")
    assert_refused(done, CONFIGURATION, "ties combines two or more adapters, and", "is the only")
    paths = (folder / "model", folder / "a", tmp_path / "all")
    done = temper("merge", *paths, "--weight", "0.5")
    assert_refused(done, CONFIGURATION, "--weight has no effect: no --adapter is named")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(folder, tmp_path, number):
    tensors = tensors_of(write_adapter(tmp_path / "bad", folder / "model", PLAIN, 1))
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    tensors[name][3, 1] = number
    save_file(tensors, tmp_path / "bad/adapter_model.safetensors")
    done = temper("merge", "--adapter", tmp_path / "bad", "--weight", 1, "--adapter", folder / "a",
                  "--weight", 1, folder / "model", tmp_path / "all")  # fmt: skip
    assert_refused(done, MODEL, f"combining the adapters makes {name} not finite")
    assert not (tmp_path / "all").exists()


def test_an_adapter_of_another_base_is_refused(folder, tmp_path):
    combine(folder, {"a": 1.0}, tmp_path / "all")
    record = json.loads((tmp_path / "all/base.json").read_text())
    record["sha256"] = "0" * 64
    (tmp_path / "all/base.json").write_text(json.dumps(record))
    (tmp_path / "model").symlink_to(folder / "model")
    done = merge(tmp_path, {"all": 1.0}, tmp_path / "again")
    assert_refused(done, MODEL, f"the adapter in {tmp_path / 'all'} was trained on", "another")

# SPDX-License-Identifier: Apache-2.0
"""What temper reads and writes is what transformers means: configurations, checkpoints, exports.

usage: transformers_oracle.py <checkpoint_probe>
"""

import dataclasses
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
import transformers
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import _convert_moe_packed_tensors
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers import (
    AutoConfig, AutoModelForCausalLM, GenerationConfig, LlamaConfig, MistralConfig, Qwen2Config,
    Qwen3Config, masking_utils,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import family_files  # noqa: E402
import tiny_families  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
PROBE = sys.argv.pop()
SMALL = {
    "vocab_size": 151, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "llama_tied": LlamaConfig(**SMALL, tie_word_embeddings=True, eos_token_id=[2, 7]),
    "llama_biases": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True, head_dim=20),
    "llama3": LlamaConfig(**SMALL, rope_parameters={**LLAMA3, "rope_theta": 5e5}),
    "linear": LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
    "mistral": MistralConfig(**SMALL),
    "mistral_full": MistralConfig(**SMALL, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen2_windows": Qwen2Config(
        **SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=1),
    "qwen3": Qwen3Config(**SMALL, head_dim=24),
    "qwen3_bias": Qwen3Config(**SMALL, attention_bias=True),
}
# Files as older versions of transformers wrote them.
OLD_FILES = {
    "old_llama3": {
        **SMALL, "model_type": "llama", "rope_theta": 5e5, "rope_scaling": LLAMA3},
    "older_linear": {
        **SMALL, "model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "null_scaling": {
        **SMALL, "model_type": "qwen2", "rope_scaling": None, "rope_theta": 1e6,
        "sliding_window": 32, "use_sliding_window": False},
    "few_keys": {
        key: value for key, value in SMALL.items() if key != "num_key_value_heads"
    } | {"model_type": "llama"},
    "null_heads": {**SMALL, "model_type": "qwen2", "num_key_value_heads": None},
}


def probe(*arguments):
    run = subprocess.run([PROBE, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise AssertionError(run.stderr)
    return run.stdout


def meaning(folder):
    """What temper should find in a folder's config.json, by transformers' own reading of it."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = model.model.layers
    attention, mlp = layers[0].self_attn, layers[0].mlp
    rope = config.rope_parameters
    eos = config.eos_token_id
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in layers]
    if config.model_type == "mistral":
        windows = [config.sliding_window] * len(layers)
    return {
        **{key: getattr(config, key) for key in (
            "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
            "rms_norm_eps", "tie_word_embeddings")},
        "head_dim": attention.head_dim,
        "qkv_bias": attention.q_proj.bias is not None,
        "output_bias": attention.o_proj.bias is not None,
        "mlp_bias": mlp.gate_proj.bias is not None,
        "qk_norm": hasattr(attention, "q_norm"),
        "windows": [window or 0 for window in windows],
        "eos_token_ids": [] if eos is None else eos if isinstance(eos, list) else [eos],
        **{key: rope[key] for key in (
            "rope_type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
            "original_max_position_embeddings") if key in rope},
    }


def keys_of(config):
    """The keys that a class of configurations has, and those that its model's code looks at."""
    keys = {*config().to_dict(), *(field.name for field in dataclasses.fields(config))}
    name = config.__module__.replace("configuration_", "modeling_")
    # A family without code of its own has Llama's.
    has_code = importlib.util.find_spec(name) is not None
    code = importlib.import_module(name if has_code else LlamaConfig.__module__.replace(
        "configuration_", "modeling_"))
    for module in (code, masking_utils):
        read = r'config\.(\w+)|getattr\((?:self\.)?config, "(\w+)"'
        for names in re.findall(read, inspect.getsource(module)):
            keys |= {name for name in names if not callable(getattr(config, name, None))}
    return sorted(keys - {"", "model_type"})


def random_model(config, dtype):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model


class Oracle(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_same_model(self, folder, wanted, dtype):
        loaded, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", output_loading_info=True)
        self.assertFalse(report["missing_keys"] or report["unexpected_keys"], report)
        self.assertEqual(loaded.dtype, dtype)
        tensors = loaded.state_dict()
        self.assertEqual(tensors.keys(), wanted.keys())
        for name, tensor in tensors.items():
            self.assertTrue(torch.equal(tensor, wanted[name].to(dtype)), name)

    def source(self, config, dtype):
        model = random_model(config, dtype)
        model.save_pretrained(self.folder / "source")
        (self.folder / "source" / "tokenizer.json").write_text("{}")
        return model.state_dict()

    def test_configurations_mean_what_transformers_takes_them_for(self):
        for name, config in CONFIGS.items():
            config.save_pretrained(self.folder / name)
        for name, keys in OLD_FILES.items():
            (self.folder / name).mkdir()
            (self.folder / name / "config.json").write_text(json.dumps(keys))
        for name in [*CONFIGS, *OLD_FILES]:
            with self.subTest(name):
                found = json.loads(probe("config", self.folder / name / "config.json"))
                wanted = meaning(self.folder / name)
                self.assertEqual({key: found[key] for key in wanted}, wanted)

    def test_each_key_of_the_installed_classes_is_known(self):
        """Honoured, harmless, or refused for itself: a new one is to be looked at."""
        families = sorted({model_type for model_type, _ in tiny_families.CASES.values()})
        for config in map(CONFIG_MAPPING.__getitem__, families):
            keys = set(keys_of(config))
            if part := family_files.TEXT_PARTS.get(config.model_type):
                keys -= set(keys_of(CONFIG_MAPPING[part]))  # Those are below `text_config`.
            keys = [*sorted(keys), "nobody_knows_this"]
            paths = [self.folder / f"{key}.json" for key in keys]
            for key, path in zip(keys, paths):
                content = tiny_families.bare_config(config.model_type) | {key: ["?"]}
                path.write_text(json.dumps(content))
            lines = probe("config", *paths).splitlines()
            for key, line in zip(keys, map(json.loads, lines), strict=True):
                with self.subTest(f"{config.model_type} {key}"):
                    unknown = [] if "refused" in line else line["unknown_keys"]
                    sizes = tiny_families.SIZES  # Not each of every class.
                    unknown = [one for one in unknown if one not in sizes]
                    self.assertEqual(unknown, [key] * (key == "nobody_knows_this"))
                    self.assertIn(key, line.get("refused", key))

    def test_each_type_of_models_for_text_is_computed_or_has_words_for_what_is_missing(self):
        computed = {model_type for model_type, _ in tiny_families.CASES.values()}
        paths = [self.folder / f"{name}.json" for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)]
        for path in paths:
            path.write_text(json.dumps({"model_type": path.stem, **tiny_families.SIZES}))
        for path, line in zip(paths, probe("config", *paths).splitlines(), strict=True):
            with self.subTest(path.stem):
                words = f'model_type is "{path.stem}", which needs '
                self.assertNotEqual(words in json.loads(line).get("refused", ""),
                                    path.stem in computed)

    def test_each_key_of_the_installed_generation_config_is_known(self):
        path = self.folder / "generation_config.json"

        def sort_out(**keys):
            path.write_text(json.dumps(keys))
            return json.loads(probe("generation", path))

        keys = dict.fromkeys([*vars(GenerationConfig()), "nobody_knows_this"], ["?"])
        self.assertEqual(sort_out(**keys)["unknown"], ["nobody_knows_this"])
        found = sort_out(do_sample=True, temperature=0.6, top_p=1.0, repetition_penalty=1.05)
        wanted = ["do_sample true", "temperature 0.6", "repetition_penalty 1.05"]
        self.assertEqual(found, {"not_applied": wanted, "unknown": []})
        neutral = GenerationConfig._get_default_generation_params()
        self.assertEqual(sort_out(**neutral), {"not_applied": [], "unknown": []})

    def test_a_head_of_its_own_is_not_tied(self):
        """Though the configuration says so; one that is the embedding is."""
        self.source(CONFIGS["llama_tied"], torch.float32)
        path = self.folder / "source" / "model.safetensors"
        tensors = load_file(path)
        embedding = tensors["model.embed_tokens.weight"]
        for name, head in {"same": embedding.clone(), "own": embedding.clone()}.items():
            head[-1, -1] += name == "own"  # In its very last number.
            save_file(tensors | {"lm_head.weight": head}, path, metadata={"format": "pt"})
            model = AutoModelForCausalLM.from_pretrained(self.folder / "source")
            probe("save", self.folder / "source", self.folder / name, "auto")
            saved = self.folder / name / "checkpoints" / "latest" / "model"
            self.assert_same_model(saved, model.state_dict(), torch.float32)
            config = json.loads((saved / "config.json").read_text())
            self.assertEqual(config["tie_word_embeddings"], name == "same")
            names = {key for file in saved.glob("*.safetensors") for key in load_file(file)}
            self.assertEqual("lm_head.weight" in names, name == "own")

    def test_a_saved_model_opens_with_equal_tensors(self):
        for name in ("llama", "llama_tied", "llama_biases", "qwen2", "qwen3"):
            with self.subTest(name):
                wanted = self.source(CONFIGS[name], torch.bfloat16)
                run = self.folder / name
                probe("save", self.folder / "source", run, "auto")
                model = run / "checkpoints" / "latest" / "model"
                self.assert_same_model(model, wanted, torch.bfloat16)
                for file in ("config.json", "generation_config.json", "tokenizer.json"):
                    self.assertEqual((model / file).read_bytes(),
                                     (self.folder / "source" / file).read_bytes())

    def test_a_model_saved_in_another_dtype_says_so(self):
        wanted = self.source(CONFIGS["llama_tied"], torch.float32)
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            name = str(dtype).removeprefix("torch.")
            probe("save", self.folder / "source", self.folder / name, name)
            model = self.folder / name / "checkpoints" / "latest" / "model"
            self.assert_same_model(model, wanted, dtype)

    def test_an_export_opens_with_equal_tensors(self):
        for name in ("llama", "llama_tied"):
            with self.subTest(name):
                wanted = self.source(CONFIGS[name], torch.bfloat16)
                probe("save", self.folder / "source", self.folder / name, "auto")
                model = self.folder / name / "checkpoints" / "latest" / "model"
                for limit, files in ((5_000_000_000, 1), (60_000, None)):
                    exported = self.folder / f"{name}-{limit}"
                    probe("export", model, exported, limit)
                    self.assert_same_model(exported, wanted, torch.bfloat16)
                    weights = sorted(exported.glob("*.safetensors"))
                    if files == 1:
                        self.assertEqual([each.name for each in weights], ["model.safetensors"])
                    else:
                        self.assertGreater(len(weights), 2)

    def test_experts_in_mxfp4_are_what_transformers_makes_of_them(self):
        config = tiny_families.make_config(
            "gpt_oss", dict(num_local_experts=3, num_experts_per_tok=2, head_dim=16))
        wanted = self.source(config, torch.bfloat16)
        source = self.folder / "source"
        others, codes, scales = load_file(source / "model.safetensors"), {}, {}
        for name in [name for name in others if name.endswith(("gate_up_proj", "down_proj"))]:
            count, size, out = others.pop(name).shape
            shape = (count, out, size // 32)
            codes[f"{name}_blocks"] = torch.randint(256, (*shape, 16), dtype=torch.uint8)
            scales[f"{name}_scales"] = torch.randint(90, 140, shape, dtype=torch.uint8)
            wanted[name] = _convert_moe_packed_tensors(
                codes[f"{name}_blocks"], scales[f"{name}_scales"])
        (source / "model.safetensors").unlink()
        files = {"a.safetensors": others | codes, "b.safetensors": scales}
        for file, tensors in files.items():
            save_file(tensors, source / file, metadata={"format": "pt"})
        index = {name: file for file, tensors in files.items() for name in tensors}
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        text = json.loads((source / "config.json").read_text())
        text["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": []}
        (source / "config.json").write_text(json.dumps(text))
        probe("save", source, self.folder / "run", "auto")
        probe("export", source, self.folder / "exported", 5_000_000_000)
        for made in (self.folder / "run/checkpoints/latest/model", self.folder / "exported"):
            self.assertNotIn("quantization_config", json.loads((made / "config.json").read_text()))
            self.assert_same_model(made, wanted, torch.bfloat16)
        scales = {name: tensor[:, 1:] for name, tensor in scales.items()}
        save_file({k: v.contiguous() for k, v in scales.items()}, source / "b.safetensors")
        with self.assertRaisesRegex(AssertionError, r"_scales is U8 \[3, 191, 2\], wanted U8"):
            probe("export", source, self.folder / "damaged", 5_000_000_000)

    def test_an_export_is_cut_into_files_as_huggingface_hub_does(self):
        self.source(CONFIGS["llama"], torch.bfloat16)
        probe("export", self.folder / "source", self.folder / "cut", 60_000)
        index = json.loads((self.folder / "cut" / "model.safetensors.index.json").read_text())
        tensors = AutoModelForCausalLM.from_pretrained(self.folder / "cut").state_dict()
        split = split_torch_state_dict_into_shards(tensors, max_shard_size=60_000)
        self.assertEqual(index["metadata"]["total_size"], split.metadata["total_size"])
        self.assertEqual(set(index["weight_map"]), set(split.tensor_to_filename))
        for file in set(index["weight_map"].values()):
            self.assertLess((self.folder / "cut" / file).stat().st_size, 60_000 + 8192)


if __name__ == "__main__":
    unittest.main()

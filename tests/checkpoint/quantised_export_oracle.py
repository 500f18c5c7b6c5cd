# SPDX-License-Identifier: Apache-2.0
"""A four-bit export is what transformers and bitsandbytes would have saved, and what they open.

usage: quantised_export_oracle.py <checkpoint_probe>
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
import transformers
from bitsandbytes import functional
from bitsandbytes.utils import unpack_tensor_to_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen2Config

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
PROBE = sys.argv.pop()
# Rows of whole blocks: bitsandbytes' AVX-512 kernel reads other scales for other rows.
SMALL = {
    "vocab_size": 151, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True),
    # More than a million elements in a matrix, which are quantised piece by piece.
    "wide": LlamaConfig(**{**SMALL, "num_hidden_layers": 1, "intermediate_size": 16390}),
}
ONE_FILE = 5_000_000_000


def quantise(source, destination, kind="nf4", scales="nested", limit=ONE_FILE):
    command = [PROBE, "quantise", source, destination, str(limit), kind, scales]
    return subprocess.run(command, capture_output=True, text=True)


def tensors_of(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def is_quantised(name, tensor):
    return ".layers." in name and tensor.dim() == 2


def by_bitsandbytes(name, tensor, kind, scales):
    """The tensors that bitsandbytes saves for one; the state as a dict."""
    packed, state = functional.quantize_4bit(
        tensor, quant_type=kind, compress_statistics=scales == "nested")
    saved = {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
    return {name: packed, **saved}


def meaning(tensors):
    """Tensors as bytes, states as dicts."""
    return {
        name: unpack_tensor_to_dict(tensor) if ".quant_state." in name
        else (tensor.dtype, tensor.shape, tensor.view(torch.uint8).numpy().tobytes())
        for name, tensor in tensors.items()
    }


class Oracle(unittest.TestCase):
    def setUp(self):
        torch.set_num_threads(1)  # More may add in another order for the mean of scales.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.source = self.folder / "source"
        self.exported = self.folder / "exported"

    def make_source(self, name, dtype, spoil=lambda model: None):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]).to(dtype)
        spoil(model)
        model.save_pretrained(self.source)
        (self.source / "tokenizer.json").write_text("{}")

    def export(self, **options):
        run = quantise(self.source, self.exported, **options)
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_the_tensors_are_those_of_bitsandbytes(self):
        for config, kind, scales in (("llama", "nf4", "nested"), ("llama", "fp4", "nested"),
                                     ("llama", "nf4", "plain"), ("wide", "nf4", "nested")):
            with self.subTest(config=config, kind=kind, scales=scales):
                self.make_source(config, torch.bfloat16)
                source = tensors_of(self.source)
                self.exported = self.folder / f"{config}-{kind}-{scales}"
                self.export(kind=kind, scales=scales)
                wanted = {}
                for name, tensor in source.items():
                    wanted |= (by_bitsandbytes(name, tensor, kind, scales)
                               if is_quantised(name, tensor) else {name: tensor})
                self.assertEqual(meaning(tensors_of(self.exported)), meaning(wanted))

    def test_the_configuration_is_the_one_of_transformers(self):
        self.make_source("llama", torch.bfloat16)
        self.export()
        config = json.loads((self.exported / "config.json").read_text())
        wanted = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="bfloat16")
        self.assertEqual(config.pop("quantization_config"), wanted.to_dict())
        self.assertEqual(config, json.loads((self.source / "config.json").read_text()))

    def test_transformers_computes_what_the_dequantised_model_does(self):
        for name, dtype, limit in (("llama", torch.bfloat16, ONE_FILE),
                                   ("qwen2", torch.float32, 30_000)):
            with self.subTest(name):
                self.make_source(name, dtype)
                dense = AutoModelForCausalLM.from_pretrained(self.source, dtype="auto").train()
                self.exported = self.folder / name
                self.export(limit=limit)
                loaded, report = AutoModelForCausalLM.from_pretrained(
                    self.exported, dtype="auto", device_map="cpu", output_loading_info=True)
                self.assertFalse(report["missing_keys"] or report["unexpected_keys"], report)
                for parameter, tensor in dense.named_parameters():
                    if is_quantised(parameter, tensor):
                        packed, state = functional.quantize_4bit(
                            tensor.data, quant_type="nf4", compress_statistics=True)
                        tensor.data = functional.dequantize_4bit(packed, state)
                tokens = torch.arange(40).view(2, 20) % 151
                # In evaluation bitsandbytes rounds scales to bf16, where the CPU computes in bf16.
                logits = loaded.train()(tokens).logits
                self.assertEqual(logits.dtype, dtype)
                self.assertTrue(torch.equal(logits, dense(tokens).logits))

    def test_what_belongs_together_is_in_one_file(self):
        self.make_source("llama", torch.bfloat16)
        self.export(limit=30_000)
        index = json.loads((self.exported / "model.safetensors.index.json").read_text())
        files = index["weight_map"]
        self.assertGreater(len(set(files.values())), 2)
        self.assertEqual(set(files), set(tensors_of(self.exported)))
        for name in files:
            matrix = name.partition(".weight.")[0]
            if name != matrix:
                self.assertEqual(files[name], files[matrix + ".weight"])

    def test_a_number_that_is_not_finite_is_refused(self):
        def spoil(model):
            model.model.layers[1].mlp.up_proj.weight.data[3, 5] = torch.inf

        self.make_source("llama", torch.bfloat16, spoil)
        run = quantise(self.source, self.exported)
        self.assertEqual(run.returncode, 1)
        self.assertIn("model.layers.1.mlp.up_proj.weight has a number that is not finite",
                      run.stderr)
        self.assertIn("try: export a checkpoint from before the training diverged", run.stderr)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["source"])


if __name__ == "__main__":
    unittest.main()

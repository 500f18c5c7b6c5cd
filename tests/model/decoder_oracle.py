# SPDX-License-Identifier: Apache-2.0
"""Compares loss, logits and every gradient with transformers, family by family.

usage: decoder_oracle.py <decoder_probe>
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers

LENGTHS = (37, 9, 14)  # Of the documents that are packed into one batch.
FLOAT32_BOUND = 1e-5  # Relative to the largest element.

SIZES = dict(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


def rope(kind="default", theta=10000.0, **others):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **others))


# With a base of 500 and heads of 16, one wave is kept, two are between, the others stretched; the
# longest document goes beyond the original context.
LLAMA3 = dict(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)

# name: class of the configuration, what differs from SIZES, sliding windows
CASES = {
    "llama, llama3 positions, tied": (
        transformers.LlamaConfig,
        dict(tie_word_embeddings=True, **rope("llama3", 500.0, **LLAMA3)),
        (0, 0),
    ),
    "llama, all biases, one key-value head": (
        transformers.LlamaConfig,
        dict(attention_bias=True, mlp_bias=True, num_key_value_heads=1, **rope()),
        (0, 0),
    ),
    "llama, linear positions, no grouping": (
        transformers.LlamaConfig,
        dict(num_key_value_heads=4, **rope("linear", factor=4.0)),
        (0, 0),
    ),
    "mistral, sliding window, three layers": (
        transformers.MistralConfig,
        dict(sliding_window=5, num_hidden_layers=3, **rope()),
        (5, 5, 5),
    ),
    "qwen2, window in the upper layer, tied": (
        transformers.Qwen2Config,
        dict(
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=1,
            tie_word_embeddings=True,
            **rope(theta=1e6),
        ),
        (0, 4),
    ),
    "qwen3, wide heads": (
        transformers.Qwen3Config,
        dict(head_dim=24, num_attention_heads=6, num_key_value_heads=3, **rope(theta=1e6)),
        (0, 0),
    ),
}


def make_model(config_class, changes):
    config = config_class(**{**SIZES, **changes}, attn_implementation="eager")
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                centre = 0.0 if name.endswith("bias") else 1.0
                parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
            # Both dtypes start from the same numbers.
            parameter.copy_(parameter.bfloat16().float())
    return model


def make_documents():
    generator = torch.Generator().manual_seed(11)
    documents = []
    for length in LENGTHS:
        tokens = torch.randint(0, SIZES["vocab_size"], (length,), generator=generator)
        targets = torch.cat([tokens[1:], torch.tensor([-100])])
        targets[torch.rand(length, generator=generator) < 0.3] = -100
        documents.append((tokens, targets))
    return documents


def run_reference(model, documents):
    """Each document by itself. Returns the loss, the logits and the gradients by name."""
    model.zero_grad()
    loss, logits = 0.0, []
    for tokens, targets in documents:
        output = model(input_ids=tokens[None]).logits[0]
        output = output if output.dtype == torch.float64 else output.float()
        document_loss = torch.nn.functional.cross_entropy(output, targets, reduction="sum")
        document_loss.backward()
        loss += document_loss.item()
        logits.append(output.detach().float())
    gradients = {
        name: p.grad.to(torch.float32, copy=True) for name, p in model.named_parameters()
    }
    return {"loss": torch.tensor(loss), "logits": torch.cat(logits), **gradients}


def model_fields(config, windows):
    positions = config.rope_parameters
    has_attention_bias = getattr(config, "attention_bias", False)
    fields = dict(
        model_type=config.model_type,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        max_positions=config.max_position_embeddings,
        norm_epsilon=config.rms_norm_eps,
        rope_type=positions["rope_type"],
        rope_theta=positions["rope_theta"],
        has_tied_head=int(config.tie_word_embeddings),
        has_qkv_bias=int(config.model_type == "qwen2" or has_attention_bias),
        has_output_bias=int(has_attention_bias),
        has_mlp_bias=int(getattr(config, "mlp_bias", False)),
        has_qk_norm=int(config.model_type == "qwen3"),
        windows=" ".join(map(str, windows)),
    )
    if positions["rope_type"] != "default":
        fields["rope_factor"] = positions["factor"]
    if positions["rope_type"] == "llama3":
        fields["low_frequency_factor"] = positions["low_freq_factor"]
        fields["high_frequency_factor"] = positions["high_freq_factor"]
        fields["original_max_positions"] = positions["original_max_position_embeddings"]
    return fields


def batch_fields(documents):
    lengths = [len(tokens) for tokens, _ in documents]
    return dict(
        tokens=torch.cat([tokens for tokens, _ in documents]).tolist(),
        targets=torch.cat([targets for _, targets in documents]).tolist(),
        positions=[position for length in lengths for position in range(length)],
        document_begins=numpy.cumsum([0, *lengths]).tolist(),
    )


class Probe:
    """temper's decoder with a model's weights, which runs one batch after another."""

    def __init__(self, program, model, windows, dtype, threads=1):
        self.vocab_size = model.config.vocab_size
        self.parameters = dict(model.named_parameters())
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        fields = model_fields(model.config, windows)
        fields |= dict(dtype=dtype, threads=threads, tensors=" ".join(self.parameters))
        write_fields(self.folder / "config.txt", fields)
        with (self.folder / "weights.bin").open("wb") as file:
            for parameter in self.parameters.values():
                file.write(parameter.detach().float().numpy().data)
        self.process = subprocess.Popen(
            [program, self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.temporary, self.process:
            self.process.stdin.close()
        assert self.process.returncode == 0

    def run(self, documents):
        """All documents in one batch. Returns the same as run_reference."""
        fields = batch_fields(documents)
        lists = {key: " ".join(map(str, values)) for key, values in fields.items()}
        write_fields(self.folder / "batch.txt", lists)
        print("batch.txt", file=self.process.stdin, flush=True)
        loss = self.process.stdout.readline()
        assert loss, "the probe has ended"
        logits = numpy.fromfile(self.folder / "logits.bin", numpy.float32)
        gradients = torch.from_numpy(numpy.fromfile(self.folder / "gradients.bin", numpy.float32))
        result = {"loss": torch.tensor(float(loss))}
        result["logits"] = torch.from_numpy(logits).view(-1, self.vocab_size)
        for name, parameter in self.parameters.items():
            result[name] = gradients[: parameter.numel()].view(parameter.shape)
            gradients = gradients[parameter.numel() :]
        assert len(gradients) == 0, "the probe wrote more gradients than there are parameters"
        return result


def write_fields(path, fields):
    path.write_text("".join(f"{key} {value}\n" for key, value in fields.items()))


def run_probe(program, model, windows, documents, dtype, threads=1):
    """One batch of all documents, as Probe.run."""
    with Probe(program, model, windows, dtype, threads) as probe:
        return probe.run(documents)


def worst_element(ours, theirs):
    """The largest difference over all tensors, relative to the tensor's largest element."""
    return max(
        ((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()).item()
        if ours[name].isfinite().all()
        else float("inf")
        for name in theirs
    )


def noise(result, exact):
    """By tensor: the length of the difference, relative to the tensor's."""
    return {name: ((result[name] - exact[name]).norm() / exact[name].norm()) for name in exact}


def check(probe, name, config_class, changes, windows):
    documents = make_documents()
    model = make_model(config_class, changes)
    exact = run_reference(model, documents)
    ours = run_probe(probe, model, windows, documents, "float32")
    error = worst_element(ours, exact)
    print(f"{name}: float32 {error:.1e}", end="")

    two_threads = run_probe(probe, model, windows, documents, "float32", threads=2)
    same = all(torch.equal(ours[key], two_threads[key]) for key in ours)

    theirs = noise(run_reference(model.bfloat16(), documents), exact)
    narrow = noise(run_probe(probe, model, windows, documents, "bfloat16"), exact)
    # The loss is one number, and may be right by luck; it is no worse than the logits.
    has_good_loss = narrow["loss"] <= theirs["logits"]
    tensors = theirs.keys() - {"loss"}
    ratios = {key: (narrow[key] / theirs[key].clamp(min=1e-4)).item() for key in tensors}
    mean = sum(ratios.values()) / len(ratios)
    worst = max(ratios, key=ratios.get)
    print(f", bfloat16 noise {mean:.2f} of theirs, at most {ratios[worst]:.2f} ({worst})")
    is_quiet = has_good_loss and mean <= 1.1 and ratios[worst] <= 2.0
    return error <= FLOAT32_BOUND and same and is_quiet


def main():
    probe = sys.argv[1]
    torch.set_num_threads(1)
    failures = [name for name, case in CASES.items() if not check(probe, name, *case)]
    for name in failures:
        print("FAILED:", name)
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(main())

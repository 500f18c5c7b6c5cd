# SPDX-License-Identifier: Apache-2.0
"""Compares loss, logits and every gradient with transformers, family by family.

usage: decoder_oracle.py <decoder_probe> <simulated device> [<number of random configurations>]

The simulated device is a library that gives the probe an accelerator; each model runs on it, too.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from transformers.core_model_loading import revert_weight_conversion

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import family_files  # noqa: E402
import family_results  # noqa: E402
import random_families  # noqa: E402
import tiny_families  # noqa: E402

LENGTHS = (37, 9, 14)  # Of the documents that are packed into one batch,
SHORT_LENGTHS = (9, 4)  # and of those for random configurations.
FLOAT32_BOUND = 1e-5  # Relative to the largest element.
NOISE_BOUND = 1.1  # Of that of transformers in the mean; twice as much of one tensor.
FEW_NUMBERS = 8
RANDOM_BOUND = 2e-5  # Scores may be large there.
RANDOM_NOISE_BOUND = 3.0  # Of one, where a ReLU may fall on the other side; of all it is as above.
RANDOM_CASES = 100


def make_model(config):
    torch.manual_seed(5)
    model = tiny_families.make_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                adds_one = model.config.model_type.startswith(("gemma", "nemotron"))
                centre = 0.0 if adds_one or name.endswith("bias") else 1.0
                parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
            # Both dtypes start from the same numbers.
            parameter.copy_(parameter.bfloat16().float())
        for correction in corrections_of(model).values():
            correction.normal_(std=0.3)
    return model


def corrections_of(model):
    """What corrects the choice of experts, by its name: no parameter, and never in bf16."""
    return {name: one for name, one in model.named_buffers() if name.endswith("_correction_bias")}


def make_documents(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(11)
    documents = []
    for length in lengths:
        tokens = torch.randint(0, tiny_families.SIZES["vocab_size"], (length,), generator=generator)
        targets = torch.cat([tokens[1:], torch.tensor([-100])])
        targets[torch.rand(length, generator=generator) < 0.3] = -100
        documents.append((tokens, targets))
    return documents


def in_file_form(model, tensors):
    """By the names and in the shapes of files: in memory experts are one tensor."""
    tensors = dict(tensors)
    if tiny_families.num_experts(model.config) is not None:
        return dict(revert_weight_conversion(model, tensors))
    return {file: tensors[name] for name, file in family_files.file_names(model).items()}


def balance_loss(model, router_logits):
    """That of all documents together; `router_logits` are [document][layer]."""
    config = model.config
    layers = tuple(torch.cat(layer) for layer in zip(*router_logits, strict=True))
    module = sys.modules[type(model).__module__]
    count = tiny_families.num_experts(config)
    loss = module.load_balancing_loss_func(layers, count, config.num_experts_per_tok)
    return config.router_aux_loss_coef * loss


def run_reference(model, documents):
    """Each document by itself. Returns the loss, the logits and the gradients by the names of
    files, without those that are none."""
    model.zero_grad()
    loss, logits, router_logits, num_targets = torch.tensor(0.0), [], [], 0
    for tokens, targets in documents:
        whole = model(input_ids=tokens[None])
        output = whole.logits[0]
        output = output if output.dtype == torch.float64 else output.float()
        loss = loss + torch.nn.functional.cross_entropy(output, targets, reduction="sum")
        num_targets += (targets != -100).sum()
        logits.append(output.detach().float())
        router_logits.append(getattr(whole, "router_logits", None))
    has_balance_loss = hasattr(model.config, "router_aux_loss_coef")
    if has_balance_loss and model.config.output_router_logits:
        (loss + num_targets * balance_loss(model, router_logits)).backward()
    else:
        loss.backward()
    loss = loss.item()
    gradients = {
        name: p.grad.to(torch.float32, copy=True)
        if p.grad is not None
        else torch.zeros_like(p, dtype=torch.float32)
        for name, p in model.named_parameters()
    }
    gradients = in_file_form(model, gradients)
    result = {"loss": torch.tensor(loss), "logits": torch.cat(logits), **gradients}
    may_be_nothing = ("k_proj.bias", ".gate.weight", ".router.layer.weight")
    nothing = [
        name
        for name in gradients
        if name.endswith(may_be_nothing) and is_nothing(result[name], result)
    ]
    return {name: tensor for name, tensor in result.items() if name not in nothing}


def batch_fields(documents):
    lengths = [len(tokens) for tokens, _ in documents]
    return dict(
        tokens=torch.cat([tokens for tokens, _ in documents]).tolist(),
        targets=torch.cat([targets for _, targets in documents]).tolist(),
        positions=[position for length in lengths for position in range(length)],
        document_begins=numpy.cumsum([0, *lengths]).tolist(),
    )


class Program:
    """The probe, which runs one model after another."""

    def __init__(self, path, device_library=""):
        self.process = subprocess.Popen(
            [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"LD_PRELOAD": device_library},
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.process:
            self.process.stdin.close()
        assert self.process.returncode == 0 or error[0]

    def run(self, folder) -> float:
        """The loss of what is in the folder."""
        print(folder, file=self.process.stdin, flush=True)
        loss = self.process.stdout.readline()
        assert loss, "the probe has ended"
        return float(loss)


class Probe:
    """temper's decoder with a model's weights, which runs one batch after another."""

    def __init__(
        self, program, model, dtype, threads=1, longest_context=1, config=None, device="cpu"
    ):
        """`config` is what is in config.json, if not what transformers writes."""
        self.program = program
        self.vocab_size = model.config.get_text_config().vocab_size
        self.parameters = in_file_form(model, model.named_parameters())
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        model.config.save_pretrained(self.folder)
        if config is not None:
            (self.folder / "config.json").write_text(json.dumps(config))
        fields = dict(
            dtype=dtype, threads=threads, device=device, tensors=" ".join(self.parameters)
        )
        corrections = [one.tolist() for one in corrections_of(model).values()]
        fields["corrections"] = " ".join(map(str, sum(corrections, [])))
        write_fields(self.folder / "config.txt", fields | dict(longest_context=longest_context))
        with (self.folder / "weights.bin").open("wb") as file:
            for parameter in self.parameters.values():
                file.write(parameter.detach().float().numpy().data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.temporary.cleanup()

    def run(self, documents):
        """All documents in one batch. Returns the same as run_reference."""
        fields = batch_fields(documents)
        lists = {key: " ".join(map(str, values)) for key, values in fields.items()}
        write_fields(self.folder / "batch.txt", lists)
        loss = self.program.run(self.folder)
        logits = numpy.fromfile(self.folder / "logits.bin", numpy.float32)
        gradients = torch.from_numpy(numpy.fromfile(self.folder / "gradients.bin", numpy.float32))
        result = {"loss": torch.tensor(loss)}
        result["logits"] = torch.from_numpy(logits).view(-1, self.vocab_size)
        for name, parameter in self.parameters.items():
            result[name] = gradients[: parameter.numel()].view(parameter.shape)
            gradients = gradients[parameter.numel() :]
        assert len(gradients) == 0, "the probe wrote more gradients than there are parameters"
        return result


def write_fields(path, fields):
    path.write_text("".join(f"{key} {value}\n" for key, value in fields.items()))


def run_probe(program, model, documents, dtype, **options):
    """One batch of all documents, as Probe.run."""
    with Probe(program, model, dtype, **options) as probe:
        return probe.run(documents)


def worst_element(ours, theirs):
    """The largest difference over all tensors, relative to the tensor's largest element."""
    return max(
        ((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()).item()
        if ours[name].isfinite().all()
        else float("inf")
        for name in theirs
    )


def is_nothing(gradient, result):
    """Whether a gradient is made of rounding alone: that of a bias of keys that are not rotated,
    which is the same for every key; that of a router whose only chosen expert weighs 1."""
    return gradient.abs().max() < 1e-5 * max(tensor.abs().max() for tensor in result.values())


def noise(result, exact):
    """By tensor: the length of the difference, relative to the tensor's."""
    return {name: ((result[name] - exact[name]).norm() / exact[name].norm()) for name in exact}


def mean_length(noises):
    """Of all tensors but the loss, which may be right by luck."""
    return sum(noises[key].item() for key in noises if key != "loss") / (len(noises) - 1)


def noise_shares(ours, theirs):
    """By tensor: ours, of theirs."""
    shares = {key: (ours[key] / theirs[key].clamp(min=1e-4)).item() for key in theirs}
    del shares["loss"]
    return shares


@dataclasses.dataclass
class Finding:
    """How temper differs from transformers in one configuration."""

    float32: float  # Of the worst element, on the CPU or the accelerator.
    same_bits: bool  # On two threads and from the older spelling of rotary keys.
    noise: float  # In bf16, of that of transformers: of all tensors in the mean,
    worst_noise: float  # and of one of more than a few numbers, whose noise is luck.
    has_good_loss: bool  # It is one number, and may be right by luck: no worse than the logits.

    def is_good(self, float32_bound: float, noise_bound: float) -> bool:
        is_quiet = self.noise <= noise_bound and self.worst_noise <= 2.0 * noise_bound
        return self.float32 <= float32_bound and self.same_bits and is_quiet and self.has_good_loss


def compare(program, name, model_type, changes) -> Finding:
    documents = make_documents()
    model = make_model(tiny_families.make_config(model_type, changes))
    exact = run_reference(model, documents)
    options = dict(longest_context=tiny_families.longest_context(name))
    ours = run_probe(program, model, documents, "float32", **options)
    there = run_probe(program, model, documents, "float32", device="accelerator", **options)
    options["config"] = tiny_families.in_old_spelling(model.config.to_dict())
    other = run_probe(program, model, documents, "float32", threads=2, **options)
    same = all(torch.equal(ours[key], other[key]) for key in ours)
    error = worst_element(ours, exact)

    if tiny_families.num_experts(model.config) is not None:
        # Rounding alone changes which experts are chosen where two are nearly alike: take all.
        every = dict(num_experts_per_tok=tiny_families.num_experts(model.config))
        if hasattr(model.config, "n_group"):
            every["topk_group"] = model.config.n_group
        model = make_model(tiny_families.make_config(model_type, changes | every))
        exact = run_reference(model, documents)
        options["config"] = None
    theirs = noise(run_reference(model.bfloat16(), documents), exact)
    shares, good_loss = [], True  # On the CPU and on the accelerator.
    for device in ("cpu", "accelerator"):
        narrow = run_probe(program, model, documents, "bfloat16", device=device, **options)
        shares.append(noise_shares(noise(narrow, exact), theirs))
        good_loss &= bool(noise(narrow, exact)["loss"] <= theirs["logits"])
    mean = max(sum(ratios.values()) / len(ratios) for ratios in shares)
    large = [key for key in shares[0] if exact[key].numel() > FEW_NUMBERS]
    worst = max(ratios[key] for ratios in shares for key in large)
    finding = Finding(error, same, mean, worst, good_loss)
    print(f"{name}: {finding}")
    return finding


def compare_random(program, number) -> tuple[str, float, float]:
    """Of a random configuration, in either spelling: its family, the worst element in fp32, and the
    mean noise in bf16, of that of transformers; nan for experts, which rounding alone changes."""
    name, model_type, changes = random_families.random_case(number)
    documents = make_documents(SHORT_LENGTHS)
    model = make_model(tiny_families.make_config(model_type, changes))
    exact = run_reference(model, documents)
    config = tiny_families.in_old_spelling(model.config.to_dict()) if number % 2 else None
    options = {"config": config}
    error = worst_element(run_probe(program, model, documents, "float32", **options), exact)
    noise_share = float("nan")
    if tiny_families.num_experts(model.config) is None:
        theirs = noise(run_reference(model.bfloat16(), documents), exact)
        ours = noise(run_probe(program, model, documents, "bfloat16", **options), exact)
        noise_share = mean_length(ours) / mean_length(theirs)
    if error > RANDOM_BOUND or noise_share > RANDOM_NOISE_BOUND:
        print(f"{name}: float32 {error:.1e}, noise {noise_share:.2f} {changes}")
    return model_type, error, noise_share


def compare_defaults(program, model_type) -> float:
    """Of a file with no key but a model's sizes: the worst element."""
    documents = make_documents()
    # Their classes make no model without the key.
    needed = {"head_dim": 16} if model_type in ("ministral", "hunyuan_v1_dense") else {}
    model = make_model(tiny_families.make_config(model_type, needed))
    exact = run_reference(model, documents)
    bare = tiny_families.bare_config(model_type) | needed
    error = worst_element(run_probe(program, model, documents, "float32", config=bare), exact)
    print(f"{model_type}, absent keys: float32 {error:.1e}")
    return error


def main():
    """Of some random configurations, too, and of as many as a second argument says."""
    count = int(sys.argv[3]) if len(sys.argv) > 3 else RANDOM_CASES
    torch.set_num_threads(1)
    failures, findings = [], {}
    with Program(sys.argv[1], sys.argv[2]) as program:
        for name, (model_type, changes) in tiny_families.CASES.items():
            finding = compare(program, name, model_type, changes)
            findings.setdefault(model_type, []).append(finding)
            if not finding.is_good(FLOAT32_BOUND, NOISE_BOUND):
                failures.append(name)
        compared = {}
        for number in range(count):
            model_type, *found = compare_random(program, number)
            compared.setdefault(model_type, []).append(found)
            if found[0] > RANDOM_BOUND or found[1] > RANDOM_NOISE_BOUND:
                failures.append(f"random {number}, {model_type}")
        for model_type, found in compared.items():
            errors, shares = zip(*found, strict=True)
            has_noise = not numpy.isnan(max(shares))
            in_bf16 = f", {max(shares):.2f} of its bf16 noise" if has_noise else ""
            told = f"{max(errors):.0e} fp32{in_bf16} in {len(found)}"
            is_good = max(errors) <= RANDOM_BOUND and not max(shares) > RANDOM_NOISE_BOUND
            told += "" if is_good else ", FAILED"
            family_results.record("random configurations", model_type, told)
        shares = [found[1] for family in compared.values() for found in family]
        mean = numpy.nanmean(shares)
        print(f"random configurations: noise {mean:.3f} in the mean")
        if mean > NOISE_BOUND:
            failures.append("random configurations, noise in the mean")
        for model_type, found in findings.items():
            default_error = compare_defaults(program, model_type)
            if default_error > FLOAT32_BOUND:
                failures.append(f"{model_type}, absent keys")
            worst = max(default_error, *(finding.float32 for finding in found))
            noise_share = max(finding.noise for finding in found)
            told = f"{worst:.0e} fp32, {noise_share:.2f} of its bf16 noise"
            is_good = all(one.is_good(FLOAT32_BOUND, NOISE_BOUND) for one in found)
            told += "" if is_good and default_error <= FLOAT32_BOUND else ", FAILED"
            family_results.record("logits and gradients", model_type, told)
    for name in failures:
        print("FAILED:", name)
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(main())

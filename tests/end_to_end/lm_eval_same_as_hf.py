# SPDX-License-Identifier: Apache-2.0
"""`launch/lm-eval` beside lm-eval's own model `hf`, on the same weights in fp32.

A multiple-choice, a perplexity and a generation task, written as local JSON. A tiny random model
that knows so few positions that texts are cut and windows roll, with the real tokenizer; and the
real model. Compared are every log-likelihood, every answer and every figure.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import torch
import workspace
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

PYTHON = os.environ["TEMPER_LM_EVAL_PYTHON"]
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
sys.path.append(subprocess.run([PYTHON, "-c", SITE], capture_output=True, text=True).stdout.strip())
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(workspace.FOLDER / "hf-cache")}
sys.path.append(str(workspace.ROOT / "datasets"))
import lm_eval  # noqa: E402
from rouge_score.rouge_scorer import RougeScorer  # noqa: E402

from temper_data.tasks import metrics  # noqa: E402

BOUND = 1e-4
FOLDER = workspace.FOLDER / "lm-eval"
CHOICES = [
    ("The capital of France is", ["Paris", "Berlin", "Madrid"], 0),
    ("Water boils at 100 degrees", ["Newton", "Celsius", "Fahrenheit of course"], 1),
    ("Two plus two is ", ["five", "four"], 1),
    ("In Slurm, jobs wait in a queue until nodes are free. " * 6 + "A job waits in a", ["sea",
     "queue"], 1),
]  # fmt: skip
TEXTS = ["A cat sat on the mat.", "The controller of Slurm schedules jobs on nodes. " * 20, "a"]
QUESTIONS = [("Q: What is the capital of France?\nA:", "Paris"), ("One, two, three,", "four")]
TASK = """\
task: local_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
"""
TASKS = {
    "choice": """\
output_type: multiple_choice
doc_to_text: '{{question}}'
doc_to_choice: '{{choices}}'
doc_to_target: '{{answer}}'
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "text": """\
output_type: loglikelihood_rolling
doc_to_text: ''
doc_to_target: '{{text}}'
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "answer": """\
output_type: generate_until
doc_to_text: '{{question}}'
doc_to_target: '{{answer}}'
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


def write_tasks() -> list[str]:
    """Paths of the tasks."""
    keys = ("question", "choices", "answer")
    documents = {
        "choice": [dict(zip(keys, document, strict=True)) for document in CHOICES],
        "text": [{"text": text} for text in TEXTS],
        "answer": [{"question": question, "answer": answer} for question, answer in QUESTIONS],
    }
    paths = []
    for name, text in TASKS.items():
        file, path = FOLDER / f"{name}.jsonl", FOLDER / f"{name}.yaml"
        file.write_text("".join(json.dumps(document) + "\n" for document in documents[name]))
        path.write_text(TASK.format(name=name, file=file) + text)
        paths.append(str(path))
    return paths


def write_tiny(real: Path) -> Path:
    folder = FOLDER / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(real)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.3)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(real / name, folder)
    return folder


def harness(model: Path, tasks: list[str], *others, **options) -> subprocess.CompletedProcess:
    command = [workspace.ROOT / "launch" / "lm-eval", "--model", model, "--dtype", "float32"]
    command += ["--ranks", 2, "--tasks", ",".join(tasks), *others]
    return subprocess.run(list(map(str, command)), timeout=500, **options)


def check_refusal(model: Path, task: str) -> None:
    """What a task asks for and temper cannot do ends the harness with one line of words."""
    other = FOLDER / "beams.yaml"
    other.write_text(Path(task).read_text().replace("do_sample: false", "num_beams: 2"))
    done = harness(model, [str(other)], stderr=subprocess.PIPE, text=True)
    wanted = "lm-eval: temper generate cannot do ['num_beams']\n  try: leave them out of the task\n"
    assert done.returncode == 1 and done.stderr.endswith(wanted), done.stderr


def write_adapter(model: Path) -> Path:
    """Prefix tuning: it takes positions, and the texts that fit are shorter."""
    folder = FOLDER / "adapter"
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    torch.manual_seed(4)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def run_here(model: Path, tasks: list[str], *others) -> tuple[dict, dict]:
    """The figures and the samples that launch/lm-eval writes."""
    output = FOLDER / "out"
    shutil.rmtree(output, ignore_errors=True)
    harness(model, tasks, "--output_path", output, "--log_samples", *others, check=True)
    results = json.loads(next(output.rglob("results_*.json")).read_text())["results"]
    samples = {}
    for path in output.rglob("samples_*.jsonl"):
        name = path.name.removeprefix("samples_").rsplit("_", 1)[0]
        samples[name] = [json.loads(line) for line in path.read_text().splitlines()]
    return results, samples


def flat(responses) -> list:
    """Numbers, flags and texts, in their order."""
    if isinstance(responses, list | tuple):
        return [item for response in responses for item in flat(response)]
    return [responses]


def is_same(ours, theirs) -> bool:
    if isinstance(theirs, float) and not isinstance(theirs, bool):
        return abs(float(ours) - theirs) < BOUND * max(1.0, abs(theirs))
    return str(ours) == str(theirs)


def check(name: str, model: Path, tasks: list[str], adapter: Path | None = None) -> None:
    results, samples = run_here(model, tasks, *(["--adapter", adapter] if adapter else []))
    options = {"pretrained": str(model), "dtype": "float32"}
    if adapter:  # Of the model's 48 positions the prefix has 5.
        options |= {"peft": str(adapter), "max_length": 43}
    expected = lm_eval.simple_evaluate("hf", options, tasks=list(tasks), device="cpu", batch_size=1)
    for task, wanted in expected["results"].items():
        mine = sorted(samples[task], key=lambda sample: sample["doc_id"])
        theirs = sorted(expected["samples"][task], key=lambda sample: sample["doc_id"])
        assert len(mine) == len(theirs) > 0
        for ours, other in zip(mine, theirs, strict=True):
            a, b = flat(ours["resps"]), flat(other["resps"])
            assert len(a) == len(b) and all(map(is_same, a, b)), (name, task, a, b)
        figures = {key: value for key, value in wanted.items() if "," in key}
        assert figures, wanted
        for key, value in figures.items():
            own = results[task][key]
            same = own == value if "acc" in key else is_same(own, value)
            assert same, (name, task, key, own, value)
            print(f"{name} {task} {key}: {own}, hf {value}")


OURS = """\
tasks:
  - {name: choice, kind: multiple_choice, data: choice.jsonl, prompt: "{question}",
     choices: choices, answer: answer}
  - {name: completion, kind: cloze, data: answer.jsonl, prompt: "{question}", answer: answer,
     separator: "", metrics: [accuracy, perplexity]}
  - {name: answer, kind: generation, data: answer.jsonl, prompt: "{question}", answer: answer,
     max_new_tokens: 8, stop: ["\\n", "."], metrics: [exact_match, rouge1, rouge2, rougeL]}
"""
THEIRS = {
    "choice": {"accuracy": "acc", "accuracy_by_length": "acc_norm",
               "accuracy_by_bytes": "acc_bytes"},
    "completion": {"accuracy": "acc", "perplexity": "perplexity"},
    "answer": {"exact_match": "exact_match"},
}  # fmt: skip


def check_own_tasks(tiny: Path) -> None:
    """`launch/evaluate` on the same data: lm-eval's figures of its model `hf`, and their errors.

    With more positions, since it cuts no prompt.
    """
    model = FOLDER / "more-positions"
    shutil.copytree(tiny, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    (FOLDER / "ours.yaml").write_text(OURS)
    tasks = []
    for name, data, more in (
        ("choice", "choice", TASKS["choice"].replace("}]", "}, {metric: acc_bytes}]")),
        ("completion", "answer", "output_type: loglikelihood\ndoc_to_text: '{{question}}'\n"
         "doc_to_target: '{{answer}}'\nmetric_list: [{metric: acc}, {metric: perplexity}]\n"),
        ("answer", "answer", TASKS["answer"]),
    ):  # fmt: skip
        text = TASK.format(name=f"own_{name}", file=FOLDER / f"{data}.jsonl") + more
        tasks.append(str(FOLDER / f"own_{name}.yaml"))
        Path(tasks[-1]).write_text(text)
    command = [workspace.ROOT / "launch" / "evaluate", model, "--tasks", FOLDER / "ours.yaml"]
    command += ["--dtype", "float32", "--ranks", 2, "--output", FOLDER / "ours.json"]
    subprocess.run(list(map(str, command)), timeout=500, check=True)
    found = {task["name"]: task for task in json.loads((FOLDER / "ours.json").read_text())["tasks"]}
    options = {"pretrained": str(model), "dtype": "float32"}
    expected = lm_eval.simple_evaluate("hf", options, tasks=tasks, device="cpu", batch_size=1)
    for name, figures in THEIRS.items():
        theirs = expected["results"][f"local_own_{name}"]
        for own, other in figures.items():
            figure = found[name]["figures"][own]
            wanted, error = theirs[f"{other},none"], theirs[f"{other}_stderr,none"]
            print(f"{name} {own}: {figure}, hf {wanted} {error}")
            assert is_same(figure["value"], wanted), (name, own)
            if own != "perplexity":  # Its error is found by drawing samples there.
                assert is_same(figure["standard_error"], error), (name, own)
    told = [answer["text"] for answer in found["answer"]["answers"]]
    assert told == [flat(s["resps"])[0] for s in expected["samples"]["local_own_answer"]]
    scorer = RougeScorer(list(metrics.ROUGE))
    for kind in metrics.ROUGE:
        scores = [scorer.score(right, text)[kind].fmeasure
                  for text, (_, right) in zip(told, QUESTIONS, strict=True)]  # fmt: skip
        assert is_same(found["answer"]["figures"][kind]["value"], sum(scores) / len(scores))


def check_rouge() -> None:
    """Counted by hand: of six words each, four, one pair, and four in order are common. And as
    rouge-score counts itself."""
    right, told = "The cat sat on the mat.", "the cat lay on a mat"
    own = {kind: metrics.GENERATED[kind](told, right) for kind in metrics.ROUGE}
    by_hand = {"rouge1": 4 / 6, "rouge2": 1 / 5, "rougeL": 4 / 6}
    scores = RougeScorer(list(by_hand)).score(right, told)
    for kind, value in by_hand.items():
        assert is_same(own[kind], value) and own[kind] == scores[kind].fmeasure, own
    more = metrics.GENERATED["rouge1"]("the cat", right)  # All of it is right, a third is said.
    assert is_same(more, 0.5), more


def main() -> None:
    check_rouge()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    real = workspace.FOLDER / "model"
    workspace.python("datasets/fetch_model.py", str(real))
    tasks = write_tasks()
    tiny = write_tiny(real)
    check("tiny", tiny, tasks)
    check_refusal(tiny, tasks[2])
    check("adapter", tiny, tasks[:2], write_adapter(tiny))
    check_own_tasks(tiny)
    check("real", real, tasks[:2])


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The documents: links lead somewhere, commands exist with their options, the tutorial runs."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "datasets"))

import templates  # noqa: E402
from conftest import write_model  # noqa: E402

NAMES = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                                 "*.md"], cwd=ROOT, text=True).split()  # fmt: skip
README_LINES = 100  # Two screens.
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
STARTERS = ("srun", "mpirun", "exec")


def anchors(document: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*)", FENCE.sub("", document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name):
    text = (ROOT / name).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def commands(text: str) -> list[list[str]]:
    """Those of fenced blocks and of `code` in a line, without comments and starters."""
    lines = []
    for _, block in FENCE.findall(text):
        lines += block.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    found = []
    for line in lines:
        try:
            words = shlex.split(line.replace("[", " ").replace("]", " "), comments=True)
        except ValueError:  # Not of a shell: an answer with an apostrophe.
            continue
        while words and (words[0] in STARTERS or re.match(r"^-n$|^\d+$|^[A-Z_]+=", words[0])):
            words.pop(0)
        if words and re.match(r"temper$|(launch|slurm|datasets|tests)/", words[0]):
            found.append(words)
    return found


@cache
def text_of(program: Path) -> str:
    """A program's own text and, where it only starts others of this project, theirs."""
    text = program.read_text()
    started = re.findall(r"/\.\./(datasets/\w+\.py)", text)
    started += [f"launch/{name}.py" for name in re.findall(r"\$here/(\w+)\.py", text)]
    started += [f"launch/{name.replace('.', '/')}.py" for name in re.findall(r"-m (\S+)", text)]
    started += [f"tests/bench/harness/{name}.py" for name in re.findall(r"run_harness (\w+)", text)]
    if program.suffix == "" and program.with_suffix(".py").exists():
        started.append(str(program.with_suffix(".py").relative_to(ROOT)))
    return text + "".join(path.read_text() for path in map(ROOT.joinpath, started) if path.exists())


@cache
def is_ignored(path: str) -> bool:
    """Whether git ignores it: a file that users make."""
    return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0


@cache
def help_of(*verb: str) -> str:
    run = subprocess.run([os.environ["TEMPER_BINARY"], *verb, "--help"], capture_output=True,
                         text=True, timeout=60)  # fmt: skip
    assert run.returncode == 0, f"there is no 'temper {' '.join(verb)}'"
    return run.stdout


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_exist(name):
    for program, *words in commands((ROOT / name).read_text()):
        if program == "launch/temper":
            words = words[2:] if words[:1] == ["-n"] else words
        if program in ("temper", "launch/temper"):
            verbs = [word for word in words if re.match(r"^[a-z][a-z-]*$", word)][:1]
            known = help_of(*verbs) if verbs else help_of()
        elif not (ROOT / program).is_file():
            is_name = not re.search(r"[*<]", program) and not is_ignored(program)
            assert not is_name or (ROOT / program).exists(), f"there is no {program}"
            continue
        else:
            known = text_of(ROOT / program)
        for word in words:
            if re.match(r"^--[a-z]", word) and word != "--help":
                option = word.partition("=")[0]
                assert re.search(rf"{option}\b", known), f"{program} has no {option}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_tutorial_runs(tmp_path):
    """Word for word, on a tiny model in the place of the quickstart's."""
    for name in ("launch", "datasets", "slurm", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    model = tmp_path / "runs" / "quickstart" / "model"
    write_model(model, templates.CHATML, eos_token="<|im_end|>")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=268, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=256, eos_token_id=260,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(model)
    tutorial = (ROOT / "launch" / "TUTORIAL.md").read_text()
    script = tmp_path / "script"  # Not standard input, which mpirun reads.
    script.write_text("".join(block for kind, block in FENCE.findall(tutorial) if kind == "bash"))
    run = subprocess.run(["bash", "-euo", "pipefail", script], capture_output=True, text=True,
                         cwd=tmp_path, timeout=300)  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert (tmp_path / "my" / "run" / "final").is_dir()
    assert (tmp_path / "my" / "page.html").stat().st_size > 0

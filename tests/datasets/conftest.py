# SPDX-License-Identifier: Apache-2.0
"""What the tests of datasets/ share: small model folders, recipes and runs of the programs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "datasets"))
sys.path.insert(0, str(Path(__file__).parent))

from browser import Browser  # noqa: E402
from program_copy import run_copy  # noqa: E402
from shard_reader import Shard  # noqa: E402
from temper_data.model_tokenizer import load_model_tokenizer  # noqa: E402
from temper_data.preparation import Preparation, total_bytes  # noqa: E402
from temper_data.progress import Progress  # noqa: E402
from temper_data.recipe import load_recipe  # noqa: E402

SPECIAL_TOKENS = (
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]", "<think>", "</think>",
)  # fmt: skip


def byte_tokenizer() -> Tokenizer:
    """One token per byte, so that a mask of tokens reads as a mask of ASCII text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def write_model(folder: Path, template: str | None = None, **config) -> Path:
    """A model folder that has only what data preparation reads."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = named | {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def write_lines(path: Path, records: list) -> Path:
    """JSON lines; a str stands for itself."""
    lines = [item if isinstance(item, str) else json.dumps(item) for item in records]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def run_here(tmp_path: Path, recipe: str, **overrides) -> Path:
    """Prepares in this process, which is faster, and returns the output folder."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(recipe.replace("{tmp}", str(tmp_path)).encode("utf-8", "surrogateescape"))
    preparation = Preparation(load_recipe(path, [f"{k}={v}" for k, v in overrides.items()]))
    preparation.run(Progress(total_bytes(preparation.files), io.StringIO()))
    return preparation.output


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def texts_of(tmp_path: Path, folder: Path, name: str) -> list[str]:
    """The documents of a shard, as text without special tokens."""
    tokenizer = load_model_tokenizer(tmp_path / "model").tokenizer
    return [tokenizer.decode(ids) for ids in Shard(folder / f"{name}.h5").documents()]


def chat(question: str, answer: str) -> dict:
    """A row with a system message that is the same in all."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": "You help. " * 20}, *turns]}


started: set[str] = set()  # Programs that these tests have started as a user does.


def run_program(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    """Runs datasets/<name> and returns its exit status and output, as text.

    Once as a user does; after that in copies of this process, which is faster, unless there are
    other options than its input and its environment.
    """
    script, words = ROOT / "datasets" / name, list(map(str, arguments))
    if name in started and options.keys() <= {"input", "env"}:
        environment = dict(options.get("env", os.environ))
        return run_copy(script, words, options.get("input", ""), environment)
    started.add(name)
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def prepare(tmp_path):
    """Runs prepare.py on a recipe given as text; {tmp} stands for the test's folder."""

    def run(recipe: str, *arguments, **options):
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe.replace("{tmp}", str(tmp_path)))
        return run_program("prepare.py", path, *arguments, **options)

    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Path:
    """The real model as datasets/fetch_model.py makes it; kept in the build folder."""
    base = os.environ.get("TEMPER_BUILD_DIR")
    folder = (Path(base) / "datasets" if base else tmp_path_factory.mktemp("model")) / "smollm2"
    done = run_program("fetch_model.py", folder)
    assert done.returncode == 0, done.stderr
    return folder

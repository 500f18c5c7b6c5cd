# SPDX-License-Identifier: Apache-2.0
"""Launches that are wrong are refused by `temper train` before it makes anything."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

import tiny_run  # noqa: E402
from tiny_run import assert_refused, temper  # noqa: E402

from temper_data.model_tokenizer import find_templates  # noqa: E402

CONFIGURATION, DATA, MODEL, CHECKPOINT, REFUSED, RESUME = 11, 12, 13, 14, 18, 19
HEAD_BYTES = 4 * tiny_run.VOCAB * tiny_run.HIDDEN


class Renewal:
    """Renews a lock as the job on another machine that has it."""

    def __init__(self, path: Path, owner: dict):
        self.path, self.owner, self.stop = path, owner, threading.Event()
        self.write(0)
        self.thread = threading.Thread(target=self.renew)

    def write(self, count: int) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.owner | {"renewals": str(count)}))
        new.replace(self.path)

    def renew(self) -> None:
        count = 0
        while not self.stop.wait(0.5):
            count += 1
            self.write(count)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def train(folder: Path, ranks: int = 1, **environment: str) -> subprocess.CompletedProcess:
    command = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    command += [os.environ["TEMPER_BINARY"], "train", folder / "run.yaml"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def test_a_start_that_mpi_does_not_know_of_is_refused_before_anything_is_made(tmp_path):
    tiny_run.write_run(tmp_path)
    done = train(tmp_path, SLURM_NTASKS="2")
    assert_refused(done, REFUSED, "the launcher started 2 tasks, but MPI knows of 1 (on ")
    assert "start with srun --mpi=pmix" in done.stderr
    assert not (tmp_path / "run").exists()


def test_ranks_of_another_binary_are_refused(tmp_path):
    tiny_run.write_run(tmp_path)
    other = tmp_path / "temper"
    other.write_bytes(Path(os.environ["TEMPER_BINARY"]).read_bytes() + b"another build")
    other.chmod(0o755)
    command = ["mpirun"]
    for binary in (os.environ["TEMPER_BINARY"], other):
        command += [":"] * (len(command) > 1) + ["-n", "1", binary, "train", tmp_path / "run.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert_refused(done, REFUSED, "rank 1 on ", " differs from rank 0 on ", " in the binary, and ")
    assert "start all ranks from one installation" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_rank_that_sees_another_shard_is_refused_by_train_and_eval(tmp_path):
    """Under one name: each rank has a folder of its own, as nodes have disks of their own."""
    for number, name in enumerate(("usual", "other")):
        folder = tmp_path / name
        config = tiny_run.write_run(folder)
        config.write_text(config.read_text().replace(f"{folder}/", ""))
        for shard, num_documents in (("train.h5", 40), ("holdout.h5", 20)):
            (folder / shard).unlink(missing_ok=True)
            tiny_run.write_shard(folder / shard, num_documents=num_documents + number)
    holdout = "data.holdout=[{name: h, path: holdout.h5}]"
    for verb, shard in (("train", "train.h5"), ("eval", "holdout.h5")):
        command = ["mpirun"]
        for name in ("usual", "other"):
            command += [":"] * (len(command) > 1) + ["-n", "1", "--wdir", tmp_path / name]
            command += [os.environ["TEMPER_BINARY"], verb, "run.yaml", holdout]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert_refused(done, REFUSED, "rank 1 on ", " differs from rank 0 on ", f" in {shard}, ")
        assert not (tmp_path / "usual" / "run").exists()


def store_head(model: Path) -> Path:
    """Stores the tied head beside the embedding, in a file of its own."""
    weights = load_file(model / "model.safetensors")
    head = {"lm_head.weight": weights["model.embed_tokens.weight"]}
    first, second = (model / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    (model / "model.safetensors").rename(first)
    save_file(head, second, metadata={"format": "pt"})
    files = dict.fromkeys(weights, first.name) | dict.fromkeys(head, second.name)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return second


def test_one_rank_reads_for_all_what_all_need(tmp_path):
    tiny_run.write_run(tmp_path)
    head = store_head(tmp_path / "model")
    (tmp_path / "train.h5").unlink()
    tiny_run.write_conversations(tmp_path / "train.h5", "{{ messages }}")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}")
    library = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "app" / "libcount_reads.so"
    done = train(tmp_path, ranks=2, LD_PRELOAD=str(library), TEMPER_COUNTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    counts = [(tmp_path / str(rank)).read_text().splitlines() for rank in range(2)]
    opens = [{line.split(" ", 2)[2]: int(line.split()[0]) for line in lines} for lines in counts]
    for rank, own in enumerate(opens):
        assert own[f"{tmp_path}/train.h5"] == 2, own  # HDF5's, and the one that is read from.
        assert own[f"{tmp_path}/model/config.json"] >= 1, own
        for name in ("tokenizer.json", "chat_template.jinja"):
            assert (f"{tmp_path}/model/{name}" in own) == (rank == 0), (rank, own)
    # To learn that it is the embedding once more, one rank reads the head; others read its header.
    size = head.stat().st_size
    read = [{line.split(" ", 2)[2]: int(line.split()[1]) for line in lines} for lines in counts]
    assert read[0][str(head)] >= size and 0 < read[1][str(head)] <= size - HEAD_BYTES, read


def other_tokenizer(folder: Path) -> list[str]:
    (folder / "train.h5").unlink()
    tiny_run.write_shard(folder / "train.h5", tokenizer=b"another one")
    return []


def other_template(folder: Path) -> list[str]:
    (folder / "train.h5").unlink()
    tiny_run.write_conversations(folder / "train.h5", "{{ messages }}")
    (folder / "model" / "chat_template.jinja").write_text("{{ messages }}, changed")
    return []


def other_base(folder: Path) -> list[str]:
    """An adapter that was trained on another model of the same shape."""
    lora = ["method=lora", "lora={rank: 2, targets: [q_proj]}"]
    assert temper("train", folder / "run.yaml", *lora, "train.max_steps=1").returncode == 0
    (folder / "run").rename(folder / "before")
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    return [*lora, f"adapter.start={folder}/before/final"]


@pytest.mark.parametrize(
    "prepare, code, message",
    [
        (lambda _: ["data.sequence_length=65"], CONFIGURATION,
         "data.sequence_length is 65, but the model knows only 64 positions"),
        (lambda _: ["method=prefix", "prefix.tokens=8000"], CONFIGURATION,
         "but the model knows only 64 positions\n  try: set prefix.tokens to at most 62"),
        (other_tokenizer, DATA, "train.h5 was made with tokenizer "),
        (other_template, DATA, "train.h5 was rendered by the chat template "),
        (other_base, MODEL, "final was trained on "),
    ],
)  # fmt: skip
def test_what_check_refuses_no_verb_does(tmp_path, prepare, code, message):
    config = tiny_run.write_run(tmp_path)
    overrides = prepare(tmp_path)
    overrides += [f"data.holdout=[{{name: h, path: {tmp_path}/train.h5}}]"]
    for verb in ("check", "train", "eval"):
        assert_refused(temper(verb, config, *overrides), code, message)
    assert not (tmp_path / "run").exists()


def test_another_template_can_be_allowed(tmp_path):
    config = tiny_run.write_run(tmp_path)
    other_template(tmp_path)
    assert temper("check", config, "data.chat_template=any").returncode == 0


@pytest.mark.parametrize(
    "jinja, with_tools, config",
    [
        ("{{ jinja }}", None, None),
        ("{{ jinja }}", "t", "{{ config }}"),
        (None, None, "{{ config }} ä"),
        (None, None, [{"name": name, "template": name} for name in ("tool_use", "default")]),
        (None, "t", "{{ config }}"),  # Any file goes before the configuration.
    ],
)
def test_the_models_template_is_the_one_that_preparation_takes(tmp_path, jinja, with_tools, config):
    path = tiny_run.write_run(tmp_path)
    keys = {} if config is None else {"chat_template": config}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(keys))
    if jinja is not None:
        (tmp_path / "model" / "chat_template.jinja").write_text(jinja)
    if with_tools is not None:
        (tmp_path / "model" / "additional_chat_templates").mkdir()
        (tmp_path / "model" / "additional_chat_templates" / "tool_use.jinja").write_text(with_tools)
    templates = find_templates(tmp_path / "model", keys)
    template = templates.get("default", templates.get("tool_use"))
    (tmp_path / "train.h5").unlink()
    tiny_run.write_conversations(tmp_path / "train.h5", template)
    done = temper("check", path)
    assert done.returncode == 0, done
    (tmp_path / "train.h5").unlink()
    tiny_run.write_conversations(tmp_path / "train.h5", template + " ")
    assert_refused(temper("check", path), DATA, "was rendered by the chat template")


def test_ranks_that_would_compute_with_other_instructions_are_refused(tmp_path):
    tiny_run.write_run(tmp_path)
    one = [os.environ["TEMPER_BINARY"], "train", tmp_path / "run.yaml"]
    other = ["env", "ATEN_CPU_CAPABILITY=default", *one]
    command = ["mpirun", "-n", "1", *one, ":", "-n", "1", *other]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert_refused(done, REFUSED, "rank 1 on ", " has another kind of processor, ",
                   " with 'ATEN_CPU_CAPABILITY=default', than rank 0 on ")  # fmt: skip
    assert "\n  try: ask Slurm for nodes of one kind" in done.stderr
    assert not (tmp_path / "run").exists()


def test_below_mpirun_slurm_may_count_other_tasks(tmp_path):
    tiny_run.write_run(tmp_path)
    done = train(tmp_path, ranks=2, SLURM_NTASKS="1")
    assert done.returncode == 0, done.stderr
    assert " begun ranks=2\n" in done.stderr


def test_where_mpi_cannot_start_nothing_says_that_it_began(tmp_path):
    tiny_run.write_run(tmp_path)
    done = train(tmp_path, ranks=2, OMPI_MCA_pml="none")
    assert done.returncode not in (0, *range(10, 20)), done.stderr
    assert "begun" not in done.stderr


def train_on_cpus(folder: Path, num_cpus: int, num_threads: int, launcher: tuple = ()):
    path = tiny_run.write_run(folder)
    text = path.read_text().replace("  max_steps", f"  threads: {num_threads}\n  max_steps")
    path.write_text(text)
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:num_cpus]))
    command = [*launcher, "taskset", "-c", cpus, os.environ["TEMPER_BINARY"], "train", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_more_threads_than_cpus_are_refused(tmp_path):
    done = train_on_cpus(tmp_path, num_cpus=1, num_threads=9)
    expected = "train.threads is 9, but rank 0 on "
    remedy = " may use 1 CPUs only\n  try: set train.threads to 0 or at most 1, or give ranks more"
    assert_refused(done, REFUSED, expected, remedy)
    assert not (tmp_path / "run").exists()


def test_ranks_that_share_too_few_cpus_are_warned_of(tmp_path):
    done = train_on_cpus(tmp_path, 2, 2, ("mpirun", "-n", "2"))
    assert done.returncode == 0, done.stderr
    assert 'warning="2 threads on 1 CPUs: ranks of a node share them' in done.stdout + done.stderr


def test_srun_without_pmix_is_refused_before_mpi_starts(tmp_path):
    tiny_run.write_run(tmp_path)
    done = train(tmp_path, SLURM_STEP_NUM_TASKS="2", SLURM_NTASKS="2")
    assert_refused(done, REFUSED, "srun started 2 tasks, but without PMIx: MPI cannot know of more")
    assert "start with srun --mpi=pmix" in done.stderr
    assert not (tmp_path / "run").exists()


def digest_of_result(folder: Path) -> str:
    weights = sorted((folder / "run" / "final").glob("*.safetensors"))
    assert weights
    return hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()


@pytest.fixture(scope="module")
def usual_result(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("usual")
    tiny_run.write_run(folder)
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return digest_of_result(folder)


@pytest.mark.parametrize(
    "setting",
    [
        "export LANG=xx_YY LC_ALL=broken",
        "export OMP_NUM_THREADS=0",
        "export OMP_NUM_THREADS=many OMP_PROC_BIND=nonsense",
        "unset HOME USER",
        "export TMPDIR=$FOLDER/none",
        "ulimit -n 64",
        "ulimit -c unlimited -s 512",
    ],
)
def test_a_hostile_environment_changes_nothing(tmp_path, usual_result, setting):
    path = tiny_run.write_run(tmp_path)
    command = ["bash", "-c", f'{setting}; exec "$@"', "hostile", os.environ["TEMPER_BINARY"]]
    done = subprocess.run([*command, "train", path], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"FOLDER": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert digest_of_result(tmp_path) == usual_result


def test_a_run_in_use_is_refused_and_left_alone(tmp_path):
    tiny_run.write_run(tmp_path)
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / "lock.json"
    owner = {"owner": "job 7", "host": "n1", "process": 5, "process_space": "n1", "since": "noon"}
    with Renewal(lock, owner):
        done = train(tmp_path)
    expected = "run is in use by job 7 on n1, process 5, since noon"
    assert_refused(done, REFUSED, expected)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock.json"]
    done = train(tmp_path)  # Nobody renews it any more.
    assert done.returncode == 0, done.stderr
    assert not lock.exists()


def test_a_signal_ends_the_wait_for_a_lock_on_all_ranks(tmp_path):
    tiny_run.write_run(tmp_path)
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / "lock.json"
    lock.write_text('{"owner": "job 7"}')
    command = ["mpirun", "-n", "2", os.environ["TEMPER_BINARY"], "train", tmp_path / "run.yaml"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = ""
    while "lock waits_for=" not in log:
        line = job.stderr.readline()
        assert line, log
        log += line
    job.send_signal(signal.SIGUSR2)  # mpirun hands it on to the ranks.
    log += job.communicate(timeout=60)[1]
    assert job.returncode == RESUME, log
    assert f'stop reason="a signal asked for a stop while waiting for {lock}" saving=no' in log
    assert lock.read_text() == '{"owner": "job 7"}'  # It was not taken over.


def test_a_run_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    tiny_run.write_run(tmp_path)
    (tmp_path / "run").write_text("a file")
    done = train(tmp_path, ranks=2)
    refusal = f"run.folder {tmp_path}/run cannot be written: {tmp_path}/run is no folder"
    assert_refused(done, CHECKPOINT, refusal, "\n  try: set run.folder to a folder that you may")


def test_a_quota_that_does_not_suffice_is_refused_before_anything_is_made(tmp_path):
    tiny_run.write_run(tmp_path)
    library = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "app" / "libfull_quota.so"
    done = train(tmp_path, LD_PRELOAD=str(library))
    needs = f"run.folder needs 494 kB more, but {tmp_path} does not give them: Disk quota exceeded"
    assert_refused(done, REFUSED, needs, " (on ", "\n  try: free some space")
    assert not (tmp_path / "run").exists()
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr

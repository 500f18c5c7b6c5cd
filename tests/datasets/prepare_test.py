# SPDX-License-Identifier: Apache-2.0
"""The preparation program from outside: recipes in, shards and messages out."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import templates
from conftest import ROOT, write_lines, write_model
from shard_reader import Shard

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.records import SourceFile

PRETRAIN = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.txt
"""
SFT = PRETRAIN.replace("pretrain", "sft").replace("a.txt", "a.jsonl")


def decode(folder, ids) -> str:
    tokenizer = load_model_tokenizer(folder).tokenizer
    return tokenizer.decode(ids, skip_special_tokens=False)


def texts(tmp_path, name="train") -> list[str]:
    shard = Shard(tmp_path / "out" / f"{name}.h5")
    return [decode(tmp_path / "model", ids) for ids in shard.documents()]


def targets(tmp_path, name="train") -> list[str]:
    shard = Shard(tmp_path / "out" / f"{name}.h5")
    pairs = zip(shard.documents(), shard.masks(), strict=True)
    chosen = [[t for t, m in zip(ids, mask, strict=True) if m] for ids, mask in pairs]
    return [decode(tmp_path / "model", ids) for ids in chosen]


def succeed(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(done) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_a_plain_file_is_a_document_between_beginning_and_end(tmp_path, prepare):
    write_model(tmp_path / "model", add_bos_token=True)
    (tmp_path / "a.txt").write_bytes("\ufeffÄ line\r\n\r\nmore <|im_end|>\n".encode())
    out = succeed(prepare(PRETRAIN))
    assert texts(tmp_path) == ["<s>Ä line\r\n\r\nmore <|im_end|>\n</s>"]
    assert "train: 1 documents, 20 tokens, 19 targets" in out
    assert not (tmp_path / "out" / "holdout.h5").exists()
    assert Shard(tmp_path / "out" / "train.h5")["eos_token_id"] == 257


@pytest.mark.parametrize(
    ("separator", "content", "expected"),
    [
        ("''", "a\nb\n\n\n\nc\r\n\r\nd", ["a\nb\n", "c\r\n", "d"]),
        ("'%'", "%\na\n\n%\nb %\n%\n%", ["a\n\n", "b %\n"]),
    ],
)
def test_a_separator_splits_a_file(tmp_path, prepare, separator, content, expected):
    write_model(tmp_path / "model")
    (tmp_path / "a.txt").write_bytes(content.encode())
    succeed(prepare(PRETRAIN + f"    separator: {separator}\n"))
    assert texts(tmp_path) == [text + "</s>" for text in expected]


def test_json_lines_for_continual_pretraining(tmp_path, prepare):
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"body": "one\n"}, "", {"body": "two", "text": "x"}])
    succeed(prepare(PRETRAIN.replace("a.txt", "a.jsonl") + "    field: body\n"))
    assert texts(tmp_path) == ["one\n</s>", "two</s>"]


SHAREGPT = {
    "system": "S",
    "conversations": [
        {"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1"},
        {"from": "human", "value": "Q2"}, {"from": "gpt", "value": "A2"},
    ],
}  # fmt: skip
INSTRUCTION = {"instruction": "Q2", "input": "more", "output": "A2", "history": [["Q1", "A1"]]}
MESSAGES = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}


@pytest.mark.parametrize(
    ("layout", "record", "text", "target"),
    [
        ("messages", MESSAGES, "user:Q assistant:A", "A"),
        ("sharegpt", SHAREGPT, "system:S user:Q1 assistant:A1 user:Q2 assistant:A2", "A1 A2"),
        ("instruction", INSTRUCTION, "user:Q1 assistant:A1 user:Q2\nmore assistant:A2", "A1 A2"),
    ],
)
def test_the_three_layouts_of_conversations(tmp_path, prepare, layout, record, text, target):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [record])
    succeed(prepare(SFT + f"    format: {layout}\n"))
    turns = [turn.split(":", 1) for turn in text.split(" ")]
    whole = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
    assert texts(tmp_path) == [whole]
    assert targets(tmp_path) == ["".join(f"{a}<|im_end|>" for a in target.split())]
    shard = Shard(tmp_path / "out" / "train.h5")
    assert shard["kind"] == "sft" and shard["chat_template"] == templates.CHATML


def test_a_system_message_is_added_where_there_is_none(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    own = [{"role": "system", "content": "own"}, *MESSAGES["messages"]]
    write_lines(tmp_path / "a.jsonl", [MESSAGES, {"messages": own}])
    succeed(prepare(SFT + "system: given\n"))
    starts = [text.split("<|im_end|>")[0] for text in texts(tmp_path)]
    assert starts == ["<|im_start|>system\ngiven", "<|im_start|>system\nown"]


def test_everything_that_is_dropped_is_counted_and_located(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)

    def chat(*turns):
        return {"messages": [{"role": r, "content": c} for r, c in turns]}

    good = chat(("user", "Q"), ("assistant", "A"))
    records = [
        good, "{broken", "[1]", good, chat(("user", "Q")), chat(("user", "Q"), ("assistant", " ")),
        {"messages": []}, {"messages": [{"content": "x"}]}, chat(("user", 5), ("assistant", "A")),
        '{"messages": [{"role": "assistant", "content": "\\ud800"}]}',
        chat(("user", "Q" * 300), ("assistant", "A")),
        chat(("user", "Q"), ("assistant", "A" * 2000)),
    ]  # fmt: skip
    write_lines(tmp_path / "a.jsonl", records)
    with open(tmp_path / "a.jsonl", "ab") as file:
        file.write(b'{"messages": "\xff"}\n')
    out = succeed(prepare(SFT + "max_tokens: 200\nmax_record_bytes: 1500\n"))
    for line in [
        "2 invalid JSON, first at {}:2: Expecting property name",
        "1 duplicate",
        "1 no assistant turn, first at {}:5",
        "1 empty answer, first at {}:6: message 1",
        "3 malformed record, first at {}:7: messages is no list",
        "1 invalid Unicode, first at {}:10",
        "1 too long, first at {}:11: 322 tokens, max_tokens=200",
        "1 record too large, first at {}:12: more than max_record_bytes=1500 bytes",
        "1 invalid UTF-8, first at {}:13: byte 14",
    ]:
        assert "dropped: " + line.format(tmp_path / "a.jsonl") in out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["dropped"]["malformed record"] == 3
    assert report["examples"]["invalid JSON"][1].endswith("a.jsonl:3: the line holds no object")
    origin = json.loads(Shard(tmp_path / "out" / "train.h5")["origin"])
    assert origin["dropped"] == report["dropped"]
    assert origin["sources"][0]["bytes"] == (tmp_path / "a.jsonl").stat().st_size


def test_long_conversations_may_be_cut_at_the_end_of_a_turn(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    two, long = MESSAGES["messages"] * 2, [MESSAGES["messages"][0] | {"content": "Q" * 90}]
    rows = [two, long + two[1:2], two + long + two[1:2], long + two[1:]]
    write_lines(tmp_path / "a.jsonl", [{"messages": row} for row in rows])
    # A question of one letter has 1 + 4 + 1 + 1 + 1 + 1 tokens, an answer 1 + 9 + 1 + 1 + 1 + 1.
    recipe = SFT + "deduplicate: false\ntoo_long: cut\n"
    whole = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    cases = [(46, [whole * 2] * 2), (45, [(whole * 2)[:-1]] * 2), (44, [whole] * 2)]
    for limit, expected in cases:
        out = succeed(prepare(recipe + f"max_tokens: {limit}\n", "--force"))
        assert texts(tmp_path) == expected
        assert targets(tmp_path) == ["A<|im_end|>" * (2 if limit > 44 else 1)] * 2
        assert f"dropped: 2 too long to cut, first at {tmp_path}/a.jsonl:2: no answer" in out


def test_long_texts_may_be_split(tmp_path, prepare):
    write_model(tmp_path / "model", add_bos_token=True)
    (tmp_path / "a.txt").write_text("abcdefgh\n%\nxyz\n%\nabc")
    recipe = PRETRAIN + "    separator: '%'\ntoo_long: split\n"
    succeed(prepare(recipe + "max_tokens: 5\nholdout: {fraction: 0.5, salt: 8}\n"))
    found = texts(tmp_path) + texts(tmp_path, "holdout")
    pieces = ["<s>abc</s>", "<s>def</s>", "<s>gh\n</s>", "<s>xyz</s>", "<s>\n</s>"]
    assert sorted(found) == sorted(pieces)  # "abc" came twice.
    first = [set(pieces[:3]) <= set(texts(tmp_path, name)) for name in ("train", "holdout")]
    assert sum(first) == 1  # All pieces of one text are on one side.
    assert "set max_tokens to 3 or more" in fail(prepare(recipe + "max_tokens: 2\n"))


def test_an_endless_template_ends(tmp_path, prepare):
    loop = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    guarded = "{% if messages[0]['content'] == 'loop' %}" + loop + "{% endif %}" + templates.CHATML
    write_model(tmp_path / "model", guarded)
    slow = {"messages": [{"role": "user", "content": "loop"}, MESSAGES["messages"][1]]}
    write_lines(tmp_path / "a.jsonl", [MESSAGES, slow])
    out = succeed(prepare(SFT + "seconds_per_document: 1\n"))
    assert f"1 timed out, first at {tmp_path}/a.jsonl:2: took longer than 1 s" in out


def test_half_a_gigabyte_in_one_line_costs_no_memory(tmp_path, prepare):
    write_model(tmp_path / "model")
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.write(b'{"text": "first"}\n')
        file.seek(1 << 29, os.SEEK_CUR)  # a hole: a line of zeros
        file.write(b'\n{"text": "last"}\n')
    limit = 600 << 20  # of address space; the libraries alone take some 300 MiB
    out = succeed(
        prepare(
            PRETRAIN.replace("a.txt", "a.jsonl"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
    )
    assert "dropped: 1 record too large" in out and "a.jsonl:2: more than" in out
    assert texts(tmp_path) == ["first</s>", "last</s>"]


@pytest.mark.parametrize(
    ("template", "recipe", "says"),
    [
        (None, SFT, "has no chat template"),
        ("{% for %}", SFT, "does not compile"),
        (templates.DATED, SFT, "set date: YYYY-MM-DD"),
        ("{{ raise_exception('not today') }}", SFT, "1 refused by the chat template"),
        ("{{ messages | length }}" + templates.SUMMED, SFT, "changes the text of other messages"),
        (templates.CHATML, SFT + "max_tokens: 5\n", "no document is left for train.h5"),
        (templates.CHATML + "\0", SFT, "holds a NUL or half a surrogate pair"),
        (None, PRETRAIN, "no file matches"),
        (None, PRETRAIN.replace("/model", "/none"), "none/tokenizer.json: No such file"),
    ],
)
def test_what_cannot_be_prepared_is_refused(tmp_path, prepare, template, recipe, says):
    write_model(tmp_path / "model", template)
    turns = MESSAGES["messages"] * 2
    write_lines(tmp_path / "a.jsonl", [{"messages": turns}])
    error = fail(prepare(recipe))
    assert says in error and "\n  try: " in error
    assert not list((tmp_path / "out").glob("*.h5")) if (tmp_path / "out").exists() else True


def test_a_file_that_grows_meanwhile_is_noticed(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    file = SourceFile(tmp_path / "a")
    while file.read_line(100):
        pass
    with open(tmp_path / "a", "a") as growing:
        growing.write("three\n")
    with pytest.raises(DataError, match="changed while it was read"):
        file.finish()


def test_an_output_is_reused_replaced_or_protected(tmp_path, prepare):
    write_model(tmp_path / "model")
    (tmp_path / "a.txt").write_text("first")
    shard = tmp_path / "out" / "train.h5"
    succeed(prepare(PRETRAIN))
    before = shard.stat().st_ino
    assert "is up to date" in succeed(prepare(PRETRAIN))
    assert "is up to date" in succeed(prepare(PRETRAIN, "workers=2"))
    (tmp_path / "a.txt").write_text("first")  # touched, not changed
    assert "is up to date" in succeed(prepare(PRETRAIN))
    assert shard.stat().st_ino == before

    (tmp_path / "a.txt").write_text("other")
    assert "written in" in succeed(prepare(PRETRAIN))
    assert texts(tmp_path) == ["other</s>"]

    error = fail(prepare(PRETRAIN, "max_tokens=100"))
    assert "holds train.h5, report.json of another recipe" in error and "--force" in error
    assert "written in" in succeed(prepare(PRETRAIN, "max_tokens=100", "--force"))

    os.truncate(shard, 100)
    assert "written in" in succeed(prepare(PRETRAIN, "max_tokens=100"))
    (tmp_path / "out" / "report.json").unlink()
    assert "holds train.h5 of another recipe" in fail(prepare(PRETRAIN, "max_tokens=100"))


def test_tokens_that_the_model_has_no_row_for_are_dropped(tmp_path, prepare):
    folder = write_model(tmp_path / "model")  # ids up to 267, which is </think>
    write_lines(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b</think>"}, {"text": "<think>"}])
    recipe = PRETRAIN.replace("a.txt", "a.jsonl")
    for config, rows in ({"vocab_size": 267}, 267), ({"text_config": {"vocab_size": 266}}, 266):
        (folder / "config.json").write_text(json.dumps(config))
        out = succeed(prepare(recipe, "--force"))
        assert texts(tmp_path) == ["a</s>", "<think></s>"][: rows - 265]
        assert Shard(tmp_path / "out" / "train.h5")["vocab_size"] == rows
        assert f"the tokenizer has ids up to 267, the model's embedding {rows} rows" in out
        assert "token outside of the embedding, first at" in out
    (folder / "config.json").write_text(json.dumps({"vocab_size": 300}))
    assert "of another recipe" in fail(prepare(recipe))
    assert "outside of" not in succeed(prepare(recipe, "--force"))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 257}))
    assert "'</s>' has id 257, the embedding 257 rows" in fail(prepare(recipe, "--force"))


def test_what_is_no_utf8_is_shown_in_escapes_and_taken_again(tmp_path, prepare):
    write_model(tmp_path / "model", "{{ raise_exception(messages[0].role) }}")
    row = {"messages": [{"role": "half \ud83d"}, *MESSAGES["messages"]]}
    write_lines(tmp_path / "a.jsonl", [row])
    assert "a.jsonl:1: half \\ud83d" in fail(prepare(SFT))
    write_model(tmp_path / "model", templates.CHATML)
    (tmp_path / "model" / "chat_template.jinja").write_text(templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [MESSAGES, "{broken"])
    os.rename(tmp_path / "a.jsonl", os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    path = os.fsdecode(os.fsencode(f"sources.0.path={tmp_path}/") + b"caf\xe9.jsonl")
    assert "caf\\udce9.jsonl:2" in succeed(prepare(SFT, path))
    assert "is up to date" in succeed(prepare(SFT, path))


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(pid) for pid in listed.split()]


def is_running(process: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # It ended before or while it was read.
        return False


def heed_interrupts() -> None:
    """Whoever runs the tests in the background has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_whatever_fails_after_a_signal_is_its_doing():
    """As a pool of workers that is shut down while it begins does."""
    program = """
import os, signal, prepare
def fail(*_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise RuntimeError("half begun")
prepare.prepare = fail
raise SystemExit(prepare.main())
"""
    done = subprocess.run([sys.executable, "-c", program, "recipe.yaml"], cwd=ROOT / "datasets",
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stderr == "prepare: interrupted; nothing was published\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_preparation_leaves_no_process_and_no_lasting_file(tmp_path, prepare, how):
    loop = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    write_model(tmp_path / "model", loop + templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [MESSAGES])
    recipe = SFT + "seconds_per_document: 600\nnear_duplicates:\n  action: drop\n"
    (tmp_path / "recipe.yaml").write_text(recipe.replace("{tmp}", str(tmp_path)))
    command = [sys.executable, ROOT / "datasets/prepare.py", tmp_path / "recipe.yaml", "workers=2"]
    options = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, **options) as process:
        out = tmp_path / "out"
        wait_until(lambda: list(out.glob(".*.tmp")) and children_of(process.pid))
        workers = children_of(process.pid)
        process.send_signal(how)
        error = process.communicate()[1]
    wait_until(lambda: not any(map(is_running, workers)))
    if how == signal.SIGKILL:
        hurried = recipe.replace("600", "1")
        assert "no document is left" in fail(prepare(hurried))  # and tidies up
    else:
        assert process.returncode == 130, error
        assert "interrupted; nothing was published" in error
    assert [path.name for path in out.iterdir()] == ["report.json"]


def test_a_failed_recipe_may_be_corrected(tmp_path, prepare):
    write_model(tmp_path / "model")
    (tmp_path / "a.txt").write_text("first")
    assert "no document is left" in fail(prepare(PRETRAIN, "max_tokens=2"))
    assert "written in" in succeed(prepare(PRETRAIN, "max_tokens=20"))


def test_a_killed_preparation_is_begun_again(tmp_path, prepare):
    write_model(tmp_path / "model")
    (tmp_path / "a.txt").write_text("first")
    succeed(prepare(PRETRAIN))
    report = tmp_path / "out" / "report.json"
    fingerprint = json.loads(report.read_text())["recipe_fingerprint"]
    report.write_text(json.dumps({"recipe_fingerprint": fingerprint, "shards": {}}))
    assert "written in" in succeed(prepare(PRETRAIN))

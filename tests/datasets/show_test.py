# SPDX-License-Identifier: Apache-2.0
"""datasets/show: documents in a terminal, what it refuses, and the shards that it reads."""

import json
import os
import pty
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import show as program
import templates
from conftest import ROOT, run_here, write_lines, write_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.joint_shards import JointShards
from temper_data.shard_file import ShardFile
from temper_data.shard_lengths import ShardLengths
from temper_data.shard_writer import ShardIdentity, ShardWriter
from temper_data.token_pieces import TokenBytes, pieces_of
from temper_data.visible_text import segments

RECIPE = "kind: sft\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
RECIPE += "  - path: {tmp}/a.jsonl\n"


def run_show(*arguments, **environment) -> str:
    """What datasets/show itself prints."""
    return subprocess.run(
        [ROOT / "datasets/show", *map(str, arguments)], stdout=subprocess.PIPE, check=True,
        env=os.environ | environment, encoding="utf-8",
    ).stdout  # fmt: skip


@pytest.fixture
def show(capsys):
    """The same in this process, which is faster: exit status, output and complaints."""

    def run(*arguments):
        status = program.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return run


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shard")
    write_model(folder / "model", templates.CHATML)
    turns = [("A\tb", "x é\n"), ("Twice", "\u202eab")]
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in turns
    ]
    write_lines(folder / "a.jsonl", rows)
    return run_here(folder, RECIPE, page="false") / "train.h5"


def spelled(text: str) -> str:
    return "".join(f"│{character}" for character in text)


def test_every_token_is_seen_and_targets_are_marked(show, shard):
    done = show(shard, 0)
    assert run_show(shard, 0, PYTHONIOENCODING="utf-8") == done.stdout
    start, end = "│‹<|im_start|>›", "│‹<|im_end|>›"
    assert done.stdout.splitlines() == [
        "document 0 of 2: 29 tokens, 6 targets",
        f"{start}{spelled('user')}│↵",
        f"{spelled('A')}│⇥{spelled('b')}{end}│↵",
        f"{start}{spelled('assistant')}│↵",
        f"⟦{spelled('x·')}│<C3>│é│↵",
        f"{end}⟧│↵",
        "",
    ]  # fmt: skip
    assert "⟦│<E2>│<80>│<RLO>│a│b│‹<|im_end|>›⟧" in show(shard, 1).stdout


def test_ids_stand_one_a_line(show, shard):
    lines = show("--ids", shard, 0).stdout.splitlines()
    assert len(lines) == 30
    ids = load_model_tokenizer(shard.parents[1] / "model").tokenizer.get_vocab()
    assert lines[1].split() == ["0", str(ids["<|im_start|>"]), "│‹<|im_start|>›│"]
    assert lines[27].split() == ["26", str(ids["Ċ"]), "T", "│↵│"]


def test_a_terminal_shows_colours_unless_asked_not_to(shard):
    for environment, has_colours in (({}, True), ({"NO_COLOR": "1"}, False)):
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [ROOT / "datasets/show", shard, "1"], stdout=terminal,
            env=os.environ | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | environment,
        )  # fmt: skip
        assert process.wait() == 0
        shown = os.read(controller, 65536).decode()
        os.close(terminal), os.close(controller)
        assert ("\x1b[32ma" in shown) == has_colours == ("⟦" not in shown)


def test_plain_ascii_will_do(shard):
    shown = run_show(shard, 0, PYTHONIOENCODING="ascii")
    assert "[[|x|_|<C3>|\\xe9|\\n\n|<<<|im_end|>>>]]" in shown


def test_a_summary_needs_no_model(show, shard):
    shown = show(shard).stdout
    assert f"{shard}: sft, 2 documents, " in shown and "from " in shown
    assert "tokens per document: median 29, 95 % up to 29, most 31" in shown
    assert "  tokens in a row  rows  cut  left out  filled\n              512     1    0" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{shard}", "2"], "there is no document 2: the shards hold 2"),
        (["{shard}", "-1"], "'-1' is no number of a document"),
        (["{shard}", "0", "one"], "'one' is no number of a document"),
        (["{shard}x"], "there is no {shard}x"),
        (["{folder}"], "{folder} is a folder\n  try: name its shards"),
        (["0"], "no shard is named"),
        (["--html", "{shard}", "1"], "a page shows documents of its own choice"),
        (["-o", "x", "{shard}"], "-o is for a page"),
        (["{folder}/report.json"], "report.json is no whole token shard: "),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(show, shard, words, message):
    names = {"shard": str(shard), "folder": str(shard.parent)}
    done = show(*(word.format(**names) for word in words))
    assert done.returncode == 1 and done.stdout == ""
    assert message.format(**names) in done.stderr and "\n  try: " in done.stderr


def test_the_model_is_the_one_of_the_shard(show, shard, tmp_path):
    other = write_model(tmp_path / "other", templates.CHATML)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + "\n")
    done = show("--model", other, shard, 0)
    assert done.returncode == 1 and "is another tokenizer than that of" in done.stderr
    alone = tmp_path / "train.h5"
    alone.write_bytes(shard.read_bytes())
    assert "no model is known: beside" in show(alone, 0).stderr
    (tmp_path / "report.json").write_text(json.dumps({"model": str(tmp_path / "gone")}))
    assert "names the model " in show(alone, 0).stderr
    assert show("--model", shard.parents[1] / "model", alone, 0).returncode == 0


def write_shard(path: Path, first: int, documents: int, digest: str = "0" * 64) -> Path:
    """Text of 3 tokens a document, numbered from `first` on."""
    with ShardWriter(path, ShardIdentity("pretrain", 500, digest, "", 0)) as writer:
        tokens = np.arange(3 * first, 3 * (first + documents))
        writer.append(tokens, np.full(documents, 3), None)
        writer.publish("{}")
    return path


def test_a_set_of_shards_is_numbered_through(show, tmp_path):
    for part, (first, documents) in enumerate(((0, 5), (5, 1), (6, 9))):
        write_shard(tmp_path / f"train-{part:05}-of-00003.h5", first, documents)
    with JointShards(sorted(tmp_path.glob("*.h5"))) as shards:
        assert shards.num_documents == 15
        for number in (0, 4, 5, 6, 14, 2):
            ids, mask, length = shards.document(number)
            assert ids.tolist() == [3 * number + i for i in range(3)]
            assert mask.tolist() == [0, 1, 1] and length == 3
        assert ShardLengths(shards).lengths.pairs() == [(3, 15)]
    shown = show(str(tmp_path / "train-*-of-00003.h5"))
    assert "3 shards, from " in shown.stdout and "15 documents, 45 tokens" in shown.stdout
    write_shard(tmp_path / "train-9.h5", 0, 1, "1" * 64)
    refused = show(str(tmp_path / "train-*.h5"))
    assert "do not belong together: their tokenizer_sha256 differs" in refused.stderr


def test_a_damaged_shard_is_refused(tmp_path):
    path = write_shard(tmp_path / "a.h5", 0, 100)
    with h5py.File(path, "r") as file:
        at = file["tokens"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at + 7] ^= 1
    (tmp_path / "flipped.h5").write_bytes(data)
    with ShardFile(tmp_path / "flipped.h5") as shard:
        with pytest.raises(DataError, match="block 0 of tokens has another hash"):
            shard.document(0)
        with pytest.raises(IndexError, match="document_offsets has 101 values"):
            shard.document(100)
    (tmp_path / "short.h5").write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="is no whole token shard"):
        ShardFile(tmp_path / "short.h5")
    for name, value, message in (
        ("num_targets", 7, "another fingerprint"),
        ("format_version", 99, "is of format temper-tokens 99; this program reads"),
    ):
        (tmp_path / "other.h5").write_bytes(path.read_bytes())
        with h5py.File(tmp_path / "other.h5", "r+") as file:
            file.attrs.modify(name, np.int64(value))
        with pytest.raises(DataError, match=message):
            ShardFile(tmp_path / "other.h5")


TEXTS = [
    "Plain text, with  blanks.", "안녕하세요 세계", "日本語と中文", "e\u0301 o\u0308", "👩‍👩‍👧 ❤️",
    "שלום (abc) مرحبا", "tab\tand\r\nline", "<|im_end|> <s>", "\u200b\u00ad\ufeff",
]  # fmt: skip


def joined(pieces) -> bytes:
    """What all tokens add up to: a character's bytes are shown before it, so they do not count."""
    kept = (text for piece in pieces for kind, text in piece.parts if kind != "bytes")
    return "".join(kept).encode()


def test_pieces_add_up_to_what_the_tokenizer_decodes(smollm2, tmp_path):
    for folder in (smollm2, write_model(tmp_path / "m"), write_unigram(tmp_path / "u")):
        model = load_model_tokenizer(folder)
        for text in TEXTS:
            ids = model.tokenizer.encode(text, add_special_tokens=False).ids
            pieces = pieces_of(ids, [1] * len(ids), TokenBytes(model))
            assert len(pieces) == len(ids)
            wanted = model.tokenizer.decode(ids, skip_special_tokens=False)
            assert joined(pieces).decode().removeprefix(" ") == wanted.removeprefix(" ")


def write_unigram(folder: Path) -> Path:
    """In the manner of SentencePiece: words with a mark for the blank, and single bytes."""
    write_model(folder)
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("▁", -2.0), *((c, -2.0) for c in sorted(set("Plaintextwih,.blanks日本tabnd")))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=False), AddedToken("<s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_bytes_that_are_no_character_are_shown_as_bytes(tmp_path):
    model = load_model_tokenizer(write_model(tmp_path / "m"))
    names = {0xC3: "Ã", 0xA9: "©", 0xFF: "ÿ", 0x41: "A", 0xED: "í", 0xA0: "ł"}
    vocabulary, known = TokenBytes(model), model.tokenizer.get_vocab()

    def shown(*data: int):
        ids = [known[names[byte]] for byte in data]
        return [piece.parts[0] for piece in pieces_of(ids, [1] * len(ids), vocabulary)]

    assert shown(0xC3, 0xA9) == [("bytes", "C3"), ("text", "é")]
    assert shown(0xC3, 0x41) == [("bytes", "C3"), ("text", "A")]
    assert shown(0xFF, 0xC3) == [("bytes", "FF"), ("bytes", "C3")]
    assert shown(0xED, 0xA0, 0xA0) == [("bytes", "ED"), ("bytes", "A0"), ("bytes", "A0")]
    broken_off = pieces_of([known["Ã"], 99999], [0, 0], vocabulary)
    assert [piece.parts for piece in broken_off] == [
        (("bytes", "C3"),), (("unknown", "99999"),),
    ]  # fmt: skip


def test_what_is_not_seen_gets_a_sign():
    assert segments(" a b ") == [
        ("space", " "), ("text", "a b"), ("space", " "),
    ]  # fmt: skip
    assert segments("a  b\n\t") == [
        ("text", "a"), ("space", " "), ("space", " "), ("text", "b"), ("newline", "\n"),
        ("tab", "\t"),
    ]  # fmt: skip
    assert segments("\u0301x") == [("mark", "\u0301x")]
    assert segments("e\u0301") == [("text", "e\u0301")]
    for character in "\u200b\u00ad\u202e\ufe0f\u3164\x1b\x7f\ue000\U000e0041":
        assert segments(character)[0][0] == "hidden", hex(ord(character))


def test_equal_shards_give_equal_pages(show, shard, tmp_path):
    made = []
    for name in ("a.html", "b.html"):
        done = show("--html", "-o", tmp_path / name, shard)
        assert done.returncode == 0 and done.stdout == f"{tmp_path / name} written\n"
        made.append((tmp_path / name).read_text(encoding="utf-8"))
    assert made[0] == made[1] and "<h1>What the model will see</h1>" in made[0]

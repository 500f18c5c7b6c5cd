# SPDX-License-Identifier: Apache-2.0
"""Near duplicates, and the hold-out by cluster."""

import gzip
import json
import random
import resource
import signal
from itertools import combinations

import numpy as np
import pytest
import templates
from conftest import chat, report_of, texts_of
from conftest import run_here as run
from conftest import write_lines, write_model
from source_files import parquet

from temper_data import near_duplicates, records
from temper_data.minhash import BandKeys, jaccard, shape_of_bands
from temper_data.text_units import shingles, units_of

PRETRAIN = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/a.jsonl
  - path: {tmp}/b.jsonl
near_duplicates:
  action: drop
holdout:
  fraction: 0.3
"""


def drawn_texts(count: int, seed: int) -> list[str]:
    """Texts of 30 to 150 words, two in three of them with 1 to 4 copies, each changed a little."""
    chance = random.Random(seed)
    texts = []
    while len(texts) < count:
        words = [f"w{chance.randrange(3000)}" for _ in range(chance.randint(30, 150))]
        texts.append(" ".join(words))
        for _ in range(chance.choice([0, 1, 4])):
            changed = list(words)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = f"new{chance.randrange(10**6)}"
            texts.append(" ".join(changed))
    chance.shuffle(texts)
    return texts[:count]


def exact_similarities(texts: list[str]) -> dict[tuple[int, int], float]:
    """The oracle: Jaccard of sets of tuples of five words, for all pairs that share one."""
    sets = []
    for text in texts:
        words = text.split()
        sets.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    pairs = combinations(range(len(texts)), 2)
    shared = {(i, j): len(sets[i] & sets[j]) for i, j in pairs}
    return {(i, j): n / (len(sets[i]) + len(sets[j]) - n) for (i, j), n in shared.items() if n}


def alike(texts: list[str]) -> list[tuple[int, int]]:
    return [pair for pair, value in exact_similarities(texts).items() if value >= 0.8]


def components(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The oracle of the clusters: each document's least neighbour, until nothing changes."""
    names, before = list(range(count)), None
    while names != before:
        before = list(names)
        for i, j in pairs:
            names[i] = names[j] = min(names[i], names[j])
    return names


def write_two(tmp_path, texts: list[str]) -> None:
    """Half of the texts to each of two sources."""
    half = len(texts) // 2
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts[:half]])
    write_lines(tmp_path / "b.jsonl", [{"text": text} for text in texts[half:]])


def test_clusters_are_those_of_the_exact_similarity(tmp_path):
    """Of pairs alike by 0.8 and more at least 99 in 100 are found, and none that is less alike."""
    write_model(tmp_path / "model")
    texts = drawn_texts(400, 7)
    write_two(tmp_path, texts)
    near = exact_similarities(texts).values()
    assert sum(0.6 < value < 0.8 for value in near) > 100  # Near misses are among them.
    pairs = alike(texts)
    names = components(len(texts), pairs)
    assert len(pairs) > 100 and any(i < 200 <= j for i, j in pairs)

    found = run(tmp_path, PRETRAIN, **{"holdout.fraction": 0})
    kept = texts_of(tmp_path, found, "train")
    best = {}
    for number, name in enumerate(names):
        if name not in best or len(texts[number]) > len(texts[best[name]]):
            best[name] = number
    assert kept == [texts[number] for number in sorted(best.values())]
    report = report_of(found)
    assert report["dropped"] == {"near duplicate": len(texts) - len(best)}
    sizes = np.unique(np.unique(names, return_counts=True)[1], return_counts=True)
    by_size = {str(s): int(n) for s, n in zip(*sizes, strict=True) if s > 1}
    assert report["near_duplicates"]["clusters_by_size"] == by_size
    assert report["near_duplicates"]["documents_not_compared"] == 0
    check_examples(tmp_path, texts, report)


def check_examples(tmp_path, texts, report) -> None:
    """Places lead to the records, and texts are their beginnings."""
    shown = report["near_duplicates"]["clusters"]
    sizes = [cluster["size"] for cluster in shown]
    assert sizes == sorted(sizes, reverse=True) and len(shown) == 20
    for item in [cluster["kept"] for cluster in shown] + [f for c in shown for f in c["fell"]]:
        name, line = item["place"].rsplit(":", 1)
        record = json.loads(open(name).read().splitlines()[int(line) - 1])
        assert record["text"].startswith(item["text"].removesuffix("...")) and item["text"]
    first = report["examples"]["near duplicate"][0]
    assert ": near copy of " + str(tmp_path) in first


def test_band_keys_find_pairs_as_often_as_the_formula_says():
    """The oracle is the formula; at 0.8 at least 99 of 100 pairs share a band."""
    bands, rows = shape_of_bands(0.8)
    assert 1 - (1 - 0.8**rows) ** bands >= 0.99 > 1 - (1 - 0.8 ** (rows + 1)) ** (128 // (rows + 1))
    keys, chance = BandKeys(0.8, 1), random.Random(3)
    shares = {0.8: 0, 0.5: 0, 0.2: 0}
    for similarity in shares:
        for _ in range(300):
            both = round(100 * similarity)
            words = [str(number) for number in chance.sample(range(10**6), 200 - both)]
            one, other = words[:100], words[:both] + words[100:]
            sets = [shingles(units_of(" ".join(part)), 1) for part in (one, other)]
            assert jaccard(*sets) == both / (200 - both)
            ours = [keys.of(units_of(" ".join(part))) for part in (one, other)]
            shares[similarity] += (ours[0] == ours[1]).any()
    for similarity, share in shares.items():
        both = round(100 * similarity)
        expected = 300 * (1 - (1 - (both / (200 - both)) ** rows) ** bands)
        assert abs(share - expected) < 35  # four times the standard deviation


@pytest.mark.parametrize(("action", "salts"), [("drop", 2), ("report", 6)])
def test_near_copies_are_on_one_side_for_any_salt(tmp_path, action, salts):
    write_model(tmp_path / "model")
    texts = drawn_texts(120, 11)
    write_two(tmp_path, texts)
    pairs = [(texts[i], texts[j]) for i, j in alike(texts)]
    seen = set()
    for salt in range(salts):
        overrides = {"holdout.salt": f"salt{salt}", "near_duplicates.action": action}
        folder = run(tmp_path, PRETRAIN, workers=1, **overrides)
        train, held = (set(texts_of(tmp_path, folder, name)) for name in ("train", "holdout"))
        assert not [pair for pair in pairs if set(pair) & train and set(pair) & held]
        if action == "report":
            assert train | held == set(texts)
        assert 0.1 < len(held) / len(train | held) < 0.55
        seen.add(frozenset(held))
    assert len(seen) == salts


def test_without_clusters_copies_are_on_both_sides(tmp_path):
    """What the test before would not notice if the salts were kind."""
    write_model(tmp_path / "model")
    texts = drawn_texts(120, 11)
    write_two(tmp_path, texts)
    folder = run(tmp_path, PRETRAIN, workers=1, **{"near_duplicates.action": "off"})
    train, held = (set(texts_of(tmp_path, folder, name)) for name in ("train", "holdout"))
    pairs = [{texts[i], texts[j]} for i, j in alike(texts)]
    assert [pair for pair in pairs if pair & train and pair & held]


def test_groups_and_near_copies_together_decide_the_side(tmp_path):
    """Records of one author stay together, and so do those of authors who copied each other."""
    write_model(tmp_path / "model")
    texts = drawn_texts(120, 13)
    authors = [f"author {number // 2}" for number in range(len(texts))]
    rows = [{"text": t, "by": a} for t, a in zip(texts, authors, strict=True)]
    write_lines(tmp_path / "a.jsonl", rows[:60])
    write_lines(tmp_path / "b.jsonl", rows[60:])
    groups = [(2 * n, 2 * n + 1) for n in range(60)]
    names = components(len(texts), alike(texts) + groups)
    for salt in range(2):
        overrides = {"holdout.by": "by", "holdout.salt": salt, "near_duplicates.action": "report"}
        folder = run(tmp_path, PRETRAIN, workers=1, **overrides)
        held = set(texts_of(tmp_path, folder, "holdout"))
        sides = [{text in held for t, text in enumerate(texts) if names[t] == n} for n in names]
        assert all(len(side) == 1 for side in sides)
        largest = max(names.count(name) for name in names)
        assert report_of(folder)["near_duplicates"]["largest_on_one_side"] == largest


def test_the_result_does_not_depend_on_workers_or_batches(tmp_path, monkeypatch):
    write_model(tmp_path / "model")
    write_two(tmp_path, drawn_texts(150, 17))
    write_lines(tmp_path / "quiz.jsonl", [{"question": drawn_texts(150, 17)[5]}])
    recipe = PRETRAIN + "decontaminate:\n  evaluation: [\"{tmp}/quiz.jsonl\"]\n  holdout: true\n"
    made = []
    for count, size in ((1, 1 << 19), (3, 1 << 19), (2, 2000)):
        monkeypatch.setattr(records, "BATCH_BYTES", size)
        folder = run(tmp_path, recipe, workers=count, output=tmp_path / f"out{count}")
        names = ["holdout.h5", "quarantine.jsonl", "report.html", "report.json", "train.h5"]
        made.append([(folder / name).read_bytes() for name in names])
        assert sorted(path.name for path in folder.iterdir()) == names
    assert made[0] == made[1] == made[2]


def test_documents_of_nothing_but_punctuation_are_no_copies_of_each_other(tmp_path):
    write_model(tmp_path / "model")
    write_two(tmp_path, ["...", "!!!", "?", "a b c d e f g h", "...", "( )"])
    folder = run(tmp_path, PRETRAIN, **{"holdout.fraction": 0})
    assert report_of(folder)["dropped"] == {"duplicate": 1}


def test_exact_copies_are_shown_by_cluster(tmp_path, monkeypatch):
    """The largest first, with places, whatever the number of processes."""
    monkeypatch.setattr(records, "BATCH_BYTES", 100)
    write_model(tmp_path / "model")
    texts = [f"Text {n % 7} stands here." for n in range(60)] + ["once"]
    texts += ["Text 3 stands here."] * 9
    write_two(tmp_path, texts)
    plain = PRETRAIN.split("near_duplicates")[0]
    found = [report_of(run(tmp_path, plain, workers=workers)) for workers in (1, 3)]
    assert found[0] == found[1] and found[0]["dropped"] == {"duplicate": 62}
    said = found[0]["duplicates"]
    assert (said["copies"], said["documents_followed"]) == (62, 7)
    assert [cluster["size"] for cluster in said["clusters"]] == [18, 9, 9, 9, 8, 8, 8]
    first = said["clusters"][0]
    assert first["text"] == "Text 3 stands here.</s>" and len(first["copies"]) == 3
    examples = found[0]["examples"]["duplicate"]
    places = [
        [place for name in "ab" for place in places_in(tmp_path / f"{name}.jsonl", f"Text {n}")]
        for n in range(7)
    ]
    assert sorted(examples) == sorted(
        f"{places[n][1]}: copy of {places[n][0]}: Text {n} stands here.</s>" for n in range(7)
    )
    assert [first["kept"], *first["copies"]] == places[3][:4]
    assert {cluster["kept"] for cluster in said["clusters"]} == {found[0] for found in places}
    assert not list((tmp_path / "out").glob(".*"))
    off = report_of(run(tmp_path, plain, deduplicate="false"))
    assert off["duplicates"] is None and off["dropped"] == {}


def places_in(path, beginning: str) -> list[str]:
    lines = path.read_text().splitlines()
    return [f"{path}:{n}" for n, line in enumerate(lines, 1) if beginning in line]


def test_a_conversation_with_most_trained_tokens_is_kept(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    long = " ".join(f"word{number}" for number in range(80))
    rows = [chat(long, "short"), chat(long, "a longer one"), chat(long, "tiny")]
    rows[0]["messages"][0]["content"] = " ".join(f"rule{number}" for number in range(90))
    write_lines(tmp_path / "a.jsonl", rows)
    recipe = PRETRAIN.replace("pretrain", "sft").replace("  - path: {tmp}/b.jsonl\n", "")
    recipe = recipe.split("holdout")[0]
    report = report_of(run(tmp_path, recipe))
    cluster = report["near_duplicates"]["clusters"][0]
    assert cluster["kept"]["place"] == f"{tmp_path}/a.jsonl:2"
    assert [item["place"][-2:] for item in cluster["fell"]] == [":1", ":3"]


def test_a_crowd_of_leaders_is_bounded_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_LEADERS", 2)
    write_model(tmp_path / "model")
    write_two(tmp_path, drawn_texts(200, 29))
    folder = run(tmp_path, PRETRAIN, **{"holdout.fraction": 0})
    assert report_of(folder)["near_duplicates"]["documents_not_compared"] > 0


def small_files() -> None:
    """Writing more than 40,000 bytes fails, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))


@pytest.mark.parametrize("compares", [True, False])
def test_a_full_disk_publishes_nothing(tmp_path, prepare, compares):
    write_model(tmp_path / "model")
    write_two(tmp_path, drawn_texts(300, 31))
    recipe = PRETRAIN + "decontaminate:\n  holdout: true\n"
    if not compares:
        recipe = PRETRAIN.replace("drop", "off")
    done = prepare(recipe, preexec_fn=small_files)
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr
    assert "try: check disk space" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


FOLDER = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/stuff
near_duplicates: {action: drop}
decontaminate: {evaluation: ['{tmp}/test.jsonl']}
filters: {personal_data: mask}
"""


def test_a_folder_of_mixed_files_goes_through_all_that_looks_at_texts(tmp_path):
    write_model(tmp_path / "model")
    words = [f"word{number}" for number in range(60)]
    leaked = "what is the name of the river that flows through the middle of the old town"
    texts = [" ".join(words), "Write to someone@old-town.de now.", f"It asks {leaked} today."]
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "a.txt").write_text(" ".join([*words, "more"]))
    (tmp_path / "stuff" / "b.jsonl.gz").write_bytes(
        gzip.compress(json.dumps({"text": texts[1]}).encode())
    )
    (tmp_path / "stuff" / "c.parquet").write_bytes(
        parquet([{"text": texts[0]}, {"text": texts[2]}])
    )
    write_lines(tmp_path / "test.jsonl", [{"question": leaked, "answer": "Spree"}])
    out = run(tmp_path, FOLDER)
    assert texts_of(tmp_path, out, "train") == [" ".join([*words, "more"]), "Write to [EMAIL] now."]
    (cluster,) = report_of(out)["near_duplicates"]["clusters"]
    assert cluster["fell"][0]["place"] == f"{tmp_path}/stuff/c.parquet:row 1"
    quarantined = json.loads((out / "quarantine.jsonl").read_text())
    assert quarantined["place"] == f"{tmp_path}/stuff/c.parquet:row 2"
    assert quarantined["found_in"] == f"{tmp_path}/test.jsonl:1"


def test_pieces_of_one_text_are_compared_as_such(tmp_path):
    """Not each with the whole text, of which all would be copies of each other."""
    write_model(tmp_path / "model")
    words = [f"{number:03}" for number in range(100)]
    write_lines(tmp_path / "a.jsonl", [{"text": " ".join(words)}])
    write_lines(tmp_path / "b.jsonl", [{"text": " ".join(words[:51])}])  # The first piece.
    recipe = PRETRAIN.split("holdout")[0] + "max_tokens: 205\ntoo_long: split\n"
    out = run(tmp_path, recipe)
    pieces = [" ".join(words)[:204], " ".join(words)[204:]]
    assert sorted(texts_of(tmp_path, out, "train")) == sorted(pieces)
    assert report_of(out)["dropped"] == {"near duplicate": 1}

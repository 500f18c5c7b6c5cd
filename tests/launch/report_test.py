# SPDX-License-Identifier: Apache-2.0
"""launch/report: what it reads of runs, what it draws, and how that looks in a real browser."""

import json
import math
import os
import re
import signal
import subprocess
import time

import pytest
import runs
from browser import CONTRAST, PHONE, SCREEN, Browser
from runs import launch, loss_at, step_line, write_lines, write_run

from temper_runs.metrics import read_metrics
from temper_runs.page.curve import smooth, thin, usual
from temper_runs.page.scale import Scale, short
from temper_runs.run_folder import open_run
from temper_runs.scalars import scalars_of

HOSTILE = "<img src=x onerror=window.hacked=1>"


def test_smoothing_is_the_weighted_mean_of_all_before():
    values = [(step, math.sin(step) + step / 10) for step in range(1, 60)]
    for span in (3, 10):
        share = 2 / (span + 1)
        for place, (step, found) in enumerate(smooth(values, span)):
            weights = [(1 - share) ** (place - k) for k in range(place + 1)]
            mean = sum(w * v for w, (_, v) in zip(weights, values, strict=False)) / sum(weights)
            assert step == values[place][0] and found == pytest.approx(mean, rel=1e-12)


def test_thinning_keeps_every_spike_and_both_ends():
    points = [(step, float(step % 7)) for step in range(100_000)]
    points[54_321] = (54_321, 1000.0)
    points[54_322] = (54_322, -1000.0)
    drawn = thin(points)
    assert {points[0], points[-1], points[54_321], points[54_322]} <= set(drawn)
    assert len(drawn) <= 4 * 500 and drawn == sorted(drawn)
    assert thin(points[:2000]) == points[:2000]


def test_a_few_wild_values_do_not_flatten_the_curve(browser, tmp_path):
    lines = [step_line(step, loss=90.0 if step == 321 else loss_at(step)) for step in range(1, 901)]
    write_lines(tmp_path / "metrics.jsonl", lines)
    assert launch("report", tmp_path, "-o", tmp_path / "page.html").returncode == 0
    browser.window(*SCREEN)
    browser.open(tmp_path / "page.html")
    assert "; 1 value beyond the edge" in browser.evaluate(
        "document.querySelector('#loss figcaption').textContent")  # fmt: skip
    top = float(browser.evaluate("document.querySelector('#loss .chart').dataset.y").split()[1])
    assert loss_at(1) < top < 4
    told = browser.evaluate("""(() => {
      const plot = document.querySelector("#loss .plot"), box = plot.getBoundingClientRect();
      plot.dispatchEvent(new PointerEvent("pointermove",
        {clientX: box.x + box.width * 320 / 899, clientY: box.y + 9}));
      return document.querySelector("#loss output").textContent;
    })()""")
    assert re.match(r"step 321: \S+ over [0-9.]+, ", told), told
    assert usual([1.0, 2.0, 99.0]) == [1.0, 2.0, 99.0]  # Few values are all shown.


@pytest.mark.parametrize("low, high, ticks", [
    (0, 24, ["0", "10", "20"]), (2.02, 3.11, ["2.5", "3.0"]),
    (1022.97, 1024.03, ["1,023.0", "1,023.5", "1,024.0"]), (0, 1e-4, ["0", "5e-5", "1e-4"]),
])  # fmt: skip
def test_ticks_are_round_and_told_apart(low, high, ticks):
    scale = Scale(low, high)
    assert [scale.label(value, 4) for value in scale.ticks(4)] == ticks
    assert all(low <= value <= high for value in scale.ticks(4))
    assert len(set(ticks)) == len(ticks)


def test_a_wide_range_is_logarithmic_only_where_all_is_positive():
    assert Scale.around([0.01, 5.0], may_log=True).is_log
    assert not Scale.around([0.0, 5.0], may_log=True).is_log
    scale = Scale(1.0, 100.0, True)
    assert scale.share(10.0) == pytest.approx(0.5)
    assert [short(tick) for tick in scale.ticks(4)] == ["1", "10", "100"]
    assert Scale.around([2.0, 2.0]).high > 2.0 > Scale.around([2.0, 2.0]).low


def test_torn_lines_and_foreign_fields_end_nothing_and_are_told(tmp_path):
    lines = [
        step_line(1), '{"kind": "step", "st', "[1]", {"kind": "step", "step": "two"},
        {"kind": "novelty", "step": 3}, step_line(4, loss=None), step_line(5, loss="low"),
        step_line(6, memory_bytes=7.0, host={"name": "n1"}), "\x00" * 30,
        step_line(7, updated=False),
    ]  # fmt: skip
    write_lines(tmp_path / "metrics.jsonl", lines)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert metrics.points("loss") == [(step, loss_at(step)) for step in (1, 6, 7)]
    assert metrics.skipped() == [7] and metrics.other_fields() == ["memory_bytes"]
    assert metrics.problems == [
        "metrics.jsonl: lines 2, 3, 9 could not be read, and are left out",
        "metrics.jsonl: 2 objects are no step and no evaluation, and left out",
        "loss is no number in 1 of 5 steps",
        "fields of the steps that are not known and no numbers: host",
    ]
    done = launch("report", tmp_path, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done
    page = (tmp_path / "page.html").read_text()
    for problem in metrics.problems:
        assert problem in page
    assert "no checkpoint yet" in page and ">memory_bytes<" in page


def test_phases_and_norms_of_units_are_told_under_their_names(tmp_path):
    norms = {"layers.0": 0.5, "head": 0.25}
    run = {"kind": "run", "step": 0, "max_steps": 3}
    lines = [run, step_line(1, forward_seconds=0.25),
             step_line(2, unit_grad_norms=norms, unit_update_ratios={"head": 1e-3}),
             step_line(3, unit_grad_norms={"layers.0": 0.75, "head": None})]  # fmt: skip
    write_lines(tmp_path / "metrics.jsonl", lines)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert metrics.problems == [] and metrics.run == run and metrics.other_fields() == []
    drawn = {"layers.0": [(2, 0.5), (3, 0.75)], "head": [(2, 0.25)]}
    assert metrics.by_unit("unit_grad_norms") == drawn
    tags = {scalar.tag for scalar in scalars_of(open_run(tmp_path)) if scalar.step == 2}
    assert {"train/grad_norm/layers.0", "train/update_ratio/head", "train/loss"} <= tags
    done = launch("report", tmp_path, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done
    page = (tmp_path / "page.html").read_text()
    assert "Gradient norm by unit" in page and "Update to weights by unit" in page
    assert ">layers.0<" in page and ">Forward<" in page


def test_losses_by_source_lengths_and_samples_are_shown(tmp_path):
    run = write_run(tmp_path / "run", steps=10)
    metrics = read_metrics(run / "metrics.jsonl")
    assert metrics.problems == [] and metrics.other_fields() == []
    assert metrics.sources() == runs.SOURCES and metrics.document_lengths() == [0, 30, 50]
    assert metrics.source_points(0, "source_losses")[2] == (3, loss_at(3) + 0.5)
    assert [step for step, _ in metrics.source_points(1, "source_losses")][:3] == [1, 2, 4]
    assert metrics.source_points(2, "source_losses") == []
    values = {scalar.tag: scalar.value for scalar in scalars_of(open_run(run)) if scalar.step == 2}
    assert values["train/loss/books.h5"] == loss_at(2) + 0.5
    assert values["train/num_targets/code/_.h5"] == 402
    assert launch("report", run, "-o", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert 'data-name="books.h5"' in page and 'data-name="code/*.h5 (smoothed)"' in page
    assert ">4 to 7</th><td class=\"number\">50</td><td class=\"number\">62.5 %</td>" in page
    assert "<caption>1 22</caption>" in page and "<bdi>5 6</bdi>" in page and "<bdi>7</bdi>" in page


def test_samples_are_texts_where_the_tokenizer_is_there(tmp_path):
    from tokenizers import Tokenizer, models

    from temper_runs.page.samples import answers_of

    words = {"no": 0, "good": 1, "evening": 5, "all": 6, "you": 7, "dear": 22}
    (tmp_path / "model").mkdir()
    Tokenizer(models.WordLevel(words, "no")).save(str(tmp_path / "model" / "tokenizer.json"))
    run = open_run(write_run(tmp_path / "run", steps=10))
    run.config["model.path"] = str(tmp_path / "model")
    assert answers_of(run) == [
        ("good dear", [(0, "evening all", "stop"), (10, "you", "stop")])
    ]  # fmt: skip


def test_a_picture_of_its_own_has_every_curve_and_stays_in_its_frame(browser, tmp_path):
    run = write_run(tmp_path / "run")
    picture = tmp_path / "run.svg"
    done = launch("report", run, "-o", tmp_path / "page.html", "--svg", picture)
    assert done.returncode == 0, done
    browser.window(*SCREEN)
    browser.open(picture)
    texts = browser.evaluate("[...document.querySelectorAll('text')].map((t) => t.textContent)")
    assert {"answers 2.50", "general 2.25", "step; ticks: checkpoints"} <= set(texts)
    label = browser.evaluate("document.documentElement.getAttribute('aria-label')")
    assert "answers from 3.5 to 2.5; general from 2 to 2.25" in label
    assert browser.evaluate("""[...document.querySelectorAll('text, path')].every((part) => {
      const box = part.getBBox();
      return box.x >= 0 && box.y >= 0 && box.x + box.width <= 640 && box.y + box.height <= 260;
    })""")
    colours = []
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        colours.append(browser.evaluate("getComputedStyle(document.querySelector('text')).fill"))
    assert colours[0] != colours[1] and browser.complaints() == []
    (tmp_path / "two").mkdir()
    write_run(tmp_path / "two" / "run")
    done = launch("report", run, tmp_path / "two" / "run", "-o", tmp_path / "p.html",
                  "--svg", picture)  # fmt: skip
    assert done.returncode == 1 and "--svg draws one run" in done.stderr


def test_damaged_files_of_a_checkpoint_are_told(tmp_path):
    run = write_run(tmp_path / "run")
    checkpoint = run / "checkpoints" / "step-00000040"
    (checkpoint / "MANIFEST.json").write_text("{")
    (checkpoint / "state.json").write_text('{"config_yaml": "a: [", "decided_by": 7}')
    (run / "timing.json").write_text("[]")
    write_lines(tmp_path / "run.jobs.jsonl", ["{", {"event": "start", "newest": 5}])
    told = "\n".join(open_run(run).problems)
    for name in ("MANIFEST.json cannot", "config_yaml is no YAML", "timing.json cannot", "jobs.j"):
        assert name in told, told
    assert launch("report", run, "-o", tmp_path / "page.html").returncode == 0


@pytest.mark.parametrize("make, words", [
    (lambda f: f / "none", "there is no folder"),
    (lambda f: f, "has no metrics.jsonl"),
])
def test_what_is_no_run_is_refused(tmp_path, make, words):
    done = launch("report", make(tmp_path), "-o", tmp_path / "page.html")
    assert done.returncode == 1 and words in done.stderr and "\n  try: " in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_restarts_are_where_a_later_job_began(tmp_path):
    run = write_run(tmp_path / "run")
    begun = [{"event": "start", "newest": name} for name in ("", "step-00000020", "")]
    write_lines(tmp_path / "run.jobs.jsonl", begun)
    assert open_run(run).restarts() == [20, 0]
    assert open_run(run).saves() == [10, 20, 30, 40]


def test_live_follows_the_run_to_its_end(tmp_path):
    run, page = write_run(tmp_path / "run", last=5), tmp_path / "page.html"
    process = subprocess.Popen(
        [runs.ROOT / "launch" / "report", run, "--live", "-o", page], stdout=subprocess.PIPE
    )
    assert b"written" in process.stdout.readline()
    assert re.search(r'http-equiv="refresh" content="\d+"', page.read_text())
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    assert "refresh" not in page.read_text().split("<style>")[0]
    (run / "final").mkdir()
    begin = time.monotonic()
    assert launch("report", run, "--live", "-o", page).returncode == 0
    assert time.monotonic() - begin < 60 and 'http-equiv="refresh"' not in page.read_text()


def test_a_run_of_the_program_is_read_whole(tmp_path):
    from tiny_run import CONFIG, temper, write_model, write_shard

    write_model(tmp_path / "model")
    write_shard(tmp_path / "train.h5")
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path))
    done = temper("train", tmp_path / "config.yaml")
    assert done.returncode == 0, done
    run = open_run(tmp_path / "run")
    assert run.problems == [] and run.metrics.other_fields() == [] and run.is_finished
    assert run.config["train.max_steps"] == "3" and run.decided_by()["steps"] == "3"
    logged = re.findall(r"step=(\d)/3 loss=([0-9.]+)", done.stderr)
    points = run.metrics.points("loss")
    assert [(str(step), f"{loss:.4f}") for step, loss in points] == logged and len(logged) == 3
    assert launch("report", run.folder, "-o", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert run.decided_by()["model"] in page and str(tmp_path / "train.h5") in page
    (use,) = run.state["mixture"]
    assert f'100.0 %</td><td class="number">{use["num_tokens"]}</td>' in page


def test_the_status_of_a_chain_draws_its_stages_that_have_begun(tmp_path):
    from tiny_run import CONFIG

    write_run(tmp_path / "run")
    write_lines(tmp_path / "run.jobs.jsonl", [
        {"event": "start", "job": 5, "newest": "", "nodes": "n1"},
        {"event": "end", "job": 5, "newest": "step-00000040", "nodes": "n1", "code": 0},
    ])  # fmt: skip
    configs = [tmp_path / "cpt.yaml", tmp_path / "sft.yaml"]
    configs[0].write_text(CONFIG.format(folder=tmp_path))
    configs[1].write_text(CONFIG.format(folder=tmp_path).replace("/run\n", "/later\n"))
    page = tmp_path / "page.html"
    done = launch("../slurm/status", f"--html={page}", *configs)
    assert done.returncode == 0, done
    assert "last        job 5 on n1 ended: 0, finished" in done.stdout
    assert "<title>How training went" in page.read_text() and "job 5" not in page.read_text()
    assert re.search(r"<h3><bdi>run</bdi>, finished</h3>", page.read_text())
    done = launch("../slurm/status", f"--html={page}", configs[1])
    assert done.returncode == 1 and "no stage has begun" in done.stderr


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Of a page of three runs, in which everything happens."""
    base = tmp_path_factory.mktemp("runs")
    first = write_run(base / "first")
    write_lines(base / "first.jobs.jsonl", [
        {"event": "start", "time": 1.8e9, "job": 1, "newest": "", "nodes": HOSTILE},
        {"event": "end", "time": 1.9e9, "job": 1, "newest": "step-00000020", "code": 137},
        {"event": "start", "time": "x", "job": 2, "newest": "step-00000020"},
    ])  # fmt: skip
    with open(first / "metrics.jsonl", "a") as file:
        file.write(json.dumps(step_line(41, updated=False, **{HOSTILE: 1})) + '\n{"torn')
    others = [write_run(base / HOSTILE, 30, "2e-04"), write_run(base / "c", last=7)]
    done = launch("report", first, *others, "-o", base / "page.html")
    assert done.returncode == 0, done
    return base / "page.html"


@pytest.fixture
def page(browser, path):
    browser.window(*SCREEN)
    browser.scheme("light")
    browser.open(path)
    yield browser
    assert browser.complaints() == []
    assert browser.requests() == [path.as_uri()]


def test_it_opens_and_runs_nothing_of_the_input(page):
    assert page.evaluate("document.title") == "How training went"
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.evaluate("document.images.length") == 0
    sections = page.evaluate("[...document.querySelectorAll('main > section')].map((s) => s.id)")
    assert sections == ["notes", "loss", "holdouts", "samples", "data", "steps", "others",
                        "differences", "events", "configuration", "identity"]  # fmt: skip


@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_nothing_is_wider_than_the_window(page, size):
    page.window(*size)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_and_all_curves_are_easy_to_see(page, scheme):
    page.scheme(scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, (ratio, where)
    page.evaluate("for (const c of document.querySelectorAll('.runs li')) c.textContent = 'x'")
    ratio, where = page.evaluate(CONTRAST)  # Now of the colours themselves.
    assert ratio >= 4.5, (ratio, where)


def test_the_pointer_reads_the_values_off_the_curves(page):
    place = page.evaluate("""(() => {
      const plot = document.querySelector("#loss .plot");
      plot.scrollIntoView({block: "center"});
      const box = plot.getBoundingClientRect();
      return [box.x + box.width * 19 / 40, box.y + box.height / 2];
    })()""")  # The axis goes from step 1 to 41.
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    told = page.evaluate("document.querySelector('#loss output').textContent")
    found = re.match(r"step 20: first ([0-9.]+), first \(smoothed\)", told)
    assert found and float(found[1]) == pytest.approx(loss_at(20), abs=2e-4), told
    assert "c 2" not in told  # That run has ended before.
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert page.evaluate("document.querySelector('#loss output').textContent") == ""


def test_marks_stand_where_things_happened(page):
    read = """(kind) => [...document.querySelectorAll("#loss ." + kind)].map((path) =>
      [...path.getAttribute("d").matchAll(/M([0-9.]+)/g)]
        .map((m) => Math.round(1 + m[1] / 1000 * 40)))"""
    assert page.evaluate(f"({read})('save')")[0] == [10, 20, 30, 40]
    assert page.evaluate(f"({read})('restart')") == [[20]]
    assert page.evaluate(f"({read})('skipped')") == [[41]]


def test_only_what_differs_is_in_the_differences(page):
    keys = page.evaluate("[...document.querySelectorAll('#differences code')]"
                         ".map((c) => c.textContent)")  # fmt: skip
    assert keys == ["run.folder", "train.max_steps", "optimizer.learning_rate"]


def test_the_search_finds_keys(page):
    page.press("/", "/")
    page.type("max_grad")
    assert page.evaluate("document.getElementById('found').textContent") == "2 keys"
    page.press("Escape")


def test_screen_readers_are_told_what_the_curves_do(page):
    label = page.evaluate("document.querySelector('#holdouts .plot').getAttribute('aria-label')")
    assert label.startswith("Loss on answers: first from 3.5 at step 0 to 2.5 at step 40")


def test_it_prints_charts_side_by_side(page):
    page.window(794, 1123)  # A4 at 96 dots per inch.
    page.call("Emulation.setEmulatedMedia", media="print")
    columns = "getComputedStyle(document.querySelector('#steps .curves')).gridTemplateColumns"
    assert len(page.evaluate(columns).split()) == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.call("Emulation.setEmulatedMedia", media="")

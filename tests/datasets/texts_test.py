# SPDX-License-Identifier: Apache-2.0
"""Slurm's manual and general English as training text: from made pages and from the real ones."""

import gzip
import json
import os
import re
from pathlib import Path

import pytest
from conftest import run_program

from temper_data.manual_options import MAX_ANSWER, Option, find_options, questions
from temper_data.manual_page import page_text, parse_page

PAGE = """<html><head><title>x</title></head><body><nav>Navigation</nav>
<div class="section">
 <div class="container">
<H1>sbatch</H1>
Section: Slurm Commands (1)<BR>Updated: x<BR><A HREF="#index">Index</A>
<h2>NAME<a class="slurm_link" id="N" href="#N"></a></h2>
<P>
sbatch - Submit
a   batch &lt;script&gt; &amp; more.
<h2>OPTIONS</h2>
<DL COMPACT>
<dt><B>-a</B>, <B>--array</B>=&lt;<I>indexes</I>&gt;<a id="O"></a></dt><dd>Submit a job array, as in
the following example:
<PRE>
  sbatch -a 1-3  x.sh

    indented
</PRE>
It may be sparse.
<DT><DD>
<P>
<dt><B>--export</B>={ALL|NONE}</dt><dd>Identify which environment variables are propagated:
<DT><DD>
<DL COMPACT><DT><DD>
<DL COMPACT>
<dt><B>ALL</B></dt><dd>All of the variables of the user are exported to the job.
<DT><DD>
<dt><B>NONE</B></dt><dd>Only the SLURM_* variables are defined in the job.
</DL>
</DL>
<DT><DD>
<P>
<dt><B>--qos</B></dt><dd>Same as <B>-q</B>
</DL>
<h2>INPUT ENVIRONMENT VARIABLES</h2>
<DL><dt><B>SBATCH_EXPORT</B></dt><dd>Overrides the option of the same name, if it is set.</DL>
<ul><li>one<li>two</ul>
<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>
<h2>COPYING</h2>
Copyright nobody.
<HR>
<A NAME="index">&nbsp;</A><H2>Index</H2> NAME
This document was created by <i>man2html</i>.
 </div> <!-- END .container -->
</div></body></html>"""


def test_a_page_becomes_plain_text():
    assert page_text(parse_page(PAGE)) == (
        "sbatch\n\nNAME\n\nsbatch - Submit a batch <script> & more.\n\nOPTIONS\n\n"
        "-a, --array=<indexes>\nSubmit a job array, as in the following example:\n\n"
        "  sbatch -a 1-3  x.sh\n\n    indented\n\nIt may be sparse.\n\n"
        "--export={ALL|NONE}\nIdentify which environment variables are propagated:\n\n"
        "ALL\nAll of the variables of the user are exported to the job.\n\n"
        "NONE\nOnly the SLURM_* variables are defined in the job.\n\n--qos\nSame as -q\n\n"
        "INPUT ENVIRONMENT VARIABLES\n\nSBATCH_EXPORT\n"
        "Overrides the option of the same name, if it is set.\n\n- one\n- two\n\nA | B\n1 | 2\n"
    )
    assert parse_page("<html>no manual</html>") == []


def test_options_have_whole_answers_and_know_their_place():
    options = {option.name: option for option in find_options("sbatch", parse_page(PAGE))}
    assert "--qos" not in options  # its answer says nothing
    array = options["-a, --array=<indexes>"]
    assert array.short == "--array" and array.kind == "option" and array.parents == ()
    assert array.answer.endswith("    indented\n\nIt may be sparse.")
    assert options["ALL"].parents == ("--export={ALL|NONE}",) and options["ALL"].kind == "word"
    assert options["--export={ALL|NONE}"].answer.endswith("variables are defined in the job.")
    assert options["SBATCH_EXPORT"].kind == "variable"


def test_long_answers_end_with_a_paragraph():
    item = "<dt>x{0}</dt><dd>" + "word " * 60
    nested = "".join(item.format(n) for n in range(9))
    page = PAGE.replace("<dt><B>ALL</B></dt>", f"{nested}<dt><B>ALL</B></dt>")
    options = {option.short: option for option in find_options("sbatch", parse_page(page))}
    answer = options["--export"].answer
    assert 1000 < len(answer) <= MAX_ANSWER and answer.endswith("\nword" + " word" * 59)
    announced = PAGE.replace("of the user are exported", "word " * 400)
    assert "--export" not in [o.short for o in find_options("sbatch", parse_page(announced))]


def test_questions_name_page_and_option_and_value():
    option = Option("sbatch", "OPTIONS", ("--export={ALL|NONE}",), "ALL", "…")
    asked = questions(option, False, 2)
    assert len(set(asked)) == 2
    for question in asked:
        assert "`sbatch`" in question and "`ALL`" in question
        assert "a value of `--export`" in question
    ambiguous = questions(Option("sacctmgr", "FOR USERS", (), "Name=<n>", "…"), True, 1)[0]
    assert "(section For Users)" in ambiguous


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def real_texts() -> Path:
    """The unpacked Debian packages that launch/setup --texts provides."""
    return Path(os.environ["TEMPER_TEXTS"])


def test_the_real_manual(tmp_path, real_texts):
    done = run_program("slurm_manual.py", real_texts, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = read_lines(tmp_path / "pages.jsonl")
    records = read_lines(tmp_path / "options.jsonl")
    assert len(pages) > 100 and sum(len(page["text"]) for page in pages) > 2_000_000
    whole = "".join(page["text"] for page in pages)
    for unwanted in ("&lt;", "&nbsp;", "Toggle Navigation", "Legal Notices", "created by man2html"):
        assert unwanted not in whole
    assert len(records) > 6000 and len({record["option"] for record in records}) > 3000
    question = [r for r in records if r["option"] == "sbatch --exclusive[={user|mcs}]"][0]
    assert "can not share nodes" in question["messages"][1]["content"]


def test_equal_answers_of_the_real_manual_share_a_group(tmp_path, real_texts):
    run_program("slurm_manual.py", real_texts, tmp_path)
    records = read_lines(tmp_path / "options.jsonl")
    groups: dict[str, set] = {}
    for record in records:
        answer = " ".join(record["messages"][1]["content"].lower().split())
        groups.setdefault(answer, set()).add(record["group"])
    assert all(len(found) == 1 for found in groups.values())
    of_option = {}
    for record in records:
        of_option.setdefault(record["option"], set()).add(record["group"])
    exclusive = [of_option[f"{page} --exclusive[={{user|mcs}}]"] for page in ("sbatch", "srun")]
    assert exclusive[0] == exclusive[1]


def test_the_real_general_text(tmp_path, real_texts):
    done = run_program("general_text.py", real_texts, tmp_path)
    assert done.returncode == 0, done.stderr
    texts = [record["text"] for record in read_lines(tmp_path / "general.jsonl")]
    assert 300 < len(texts) < 600 and sum(map(len, texts)) > 1_000_000
    assert not any(re.search("[\u2500-\u257f]", text) for text in texts)


def test_missing_sources_are_named(tmp_path):
    done = run_program("slurm_manual.py", tmp_path, tmp_path / "out")
    assert done.returncode == 1 and "holds no HTML pages" in done.stderr
    assert "try: unpack Debian's slurm-wlm-doc" in done.stderr
    done = run_program("general_text.py", tmp_path, tmp_path / "out")
    assert done.returncode == 1 and "try: unpack Debian's jargon-text" in done.stderr
    source = tmp_path / "usr/share/doc/jargon-text/jargon.txt.gz"
    source.parent.mkdir(parents=True)
    source.write_bytes(gzip.compress(b"something else"))
    done = run_program("general_text.py", tmp_path, tmp_path / "out")
    assert "has no line that begins with 'Chapter 1.'" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""A page on which people choose between two answers without knowing whose they are."""

import hashlib
import random
from itertools import combinations
from pathlib import Path

from temper_data.json_text import to_json
from temper_data.page.frame import page_header, read, whole
from temper_data.page.markup import Html

from .comparison import Compared

TITLE = "Which answer is better?"
HERE = Path(__file__).parent


def make_blind(compared: Compared) -> tuple[str, dict]:
    """The page, and the key that says which arms its answers are of.

    Pairs, and the two sides of each, are in an order that the answers' hash decides. Pairs of equal
    answers are left out: there is nothing to choose.
    """
    options = compared.options.blind
    rows = {row.name: row for row in compared.rows}
    questions = compared.asked.questions[: options.questions]
    found = [
        (question, [(name, rows[name].answers[place]) for name in pair])
        for place, question in enumerate(questions)
        for pair in combinations(options.arms, 2)
        if rows[pair[0]].answers[place] != rows[pair[1]].answers[place]
    ]
    said = to_json([[question.text, sides] for question, sides in found])
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    order = random.Random(digest)
    order.shuffle(found)
    for _, sides in found:
        order.shuffle(sides)
    pairs = [
        {"question": question.text, "right": question.answer, "first": sides[0][1],
         "second": sides[1][1]}
        for question, sides in found
    ]  # fmt: skip
    key = {
        "page": digest,
        "pairs": [
            {"question": question.text, "first": sides[0][0], "second": sides[1][0]}
            for question, sides in found
        ],
    }
    return page(digest, pairs), key


def page(digest: str, pairs: list[dict]) -> str:
    style, script = (read(HERE / name) for name in ("blind.css", "blind.js"))
    data = to_json({"page": digest, "pairs": pairs}).replace("<", "\\u003c")
    held = Html(f'<script type="application/json" id="pairs">{data}</script>')
    header = page_header("Two answers, whose you do not know", TITLE)
    return whole(TITLE, style, script, [header, Html(MAIN), held])


MAIN = """<main id="main">
<p class="rater"><label for="rater">Your name</label>
<input id="rater" autocomplete="off" spellcheck="false"> <span id="place" role="status"></span></p>
<div id="pair">
<h2 id="question"></h2>
<div class="sides">
<section aria-labelledby="one"><h3 id="one">Answer 1</h3>
<p id="first" class="answer"></p></section>
<section aria-labelledby="two"><h3 id="two">Answer 2</h3>
<p id="second" class="answer"></p></section>
</div>
<p class="keys"><button data-choice="1">1: the first</button>
<button data-choice="2">2: the second</button>
<button data-choice="0">0: no difference</button></p>
<details><summary>What the manual says</summary><p id="right" class="answer"></p></details>
</div>
<p id="done" hidden>That was the last pair. Save your choices, and give the file to whoever
asked.</p>
<p class="keys"><button id="back">Back</button> <button id="save">Save choices</button></p>
</main>"""

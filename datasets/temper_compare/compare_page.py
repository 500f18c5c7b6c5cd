# SPDX-License-Identifier: Apache-2.0
"""The comparison as one HTML file that needs nothing else."""

from collections.abc import Callable

from temper_data.page.frame import Frame, page_header
from temper_data.page.markup import Html, Section, foreign, number, plural, section, table, tag

from .bootstrap import Sample
from .comparison import Compared
from .findings import duration, write_findings
from .manual import SUPPORT_WORDS, SUPPORTED_SHARE
from .properties import HEADS, make_properties
from .table import Row

FRAME = Frame(
    title="Fine-tune, prompt or retrieve?",
    style="#shown dl { display: block; } #shown dl > div { margin-bottom: .8rem; }",
)
MAX_SHOWN = 8  # questions with all answers; arbitrary
MAX_TEXT = 500  # characters of one answer; arbitrary
MINUS = "\u2212"


def make_page(compared: Compared) -> str:
    """The whole file."""
    rows = compared.rows
    sections = [
        section("findings", "What the figures say", findings(rows)),
        section("properties", "What each of them is for", properties(rows)),
        section("answers", "Answers", quality(rows)),
        section("unanswerable", "Without an answer", unanswerable(rows)),
        section("cost", "Cost", costs(rows)),
        section("updates", "When the manual changes", updates(rows)),
        section("shown", "What they said", shown(compared)),
        section("rules", "How it was measured", rules(compared)),
    ]
    made = [part for part in sections if part.body]
    lead = tag("p", summary(compared), class_="lead")
    return FRAME.page(page_header("One model, one question set", FRAME.title, lead), made)


def summary(compared: Compared) -> str:
    asked = compared.asked
    return (
        f"{plural(len(compared.rows), 'arm')} on {plural(len(asked.questions), 'question')} of a "
        f"hold-out, {len(asked.unanswerable)} without an answer, {len(asked.edits)} whose answer "
        f"changes; {plural(compared.passages, 'passage')} of a manual."
    )


def findings(rows: list[Row]) -> Html:
    made = [[tag("h3", title), tag("p", " ".join(said))] for title, said in write_findings(rows)]
    return Html("".join(tag("div", part) for part in made))


def properties(rows: list[Row]) -> Html:
    lines = make_properties(rows)
    note = tag("small", "Beside the model that is only asked. Of each way the arm with the highest "
                        "log-likelihood, in intervals of 95 %.")  # fmt: skip
    return table("Properties, measured", note, list(HEADS), lines, "t" * len(HEADS))


def figure(sample: Sample | None, scale: float = 1.0, digits: int = 2) -> Html:
    """A mean and its interval."""
    if sample is None:
        return tag("span", "\u2013")
    found = sample.estimate()
    low, high = (signed(v * scale, digits) for v in (found.low, found.high))
    return tag("span", signed(found.value * scale, digits), tag("small", f"{low} to {high}"))


def signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def grid(caption: str, note: str, columns: dict[str, Callable], rows: list[Row]) -> Html:
    """A table of arms."""
    heads = ["arm", *columns]
    lines = [[row.name, *(make(row) for make in columns.values())] for row in rows]
    return table(caption, tag("small", note), heads, lines, "t" + "n" * len(columns))


def quality(rows: list[Row]) -> Html:
    columns = {
        "log-likelihood": lambda row: figure(row.right),
        "exact, %": lambda row: figure(row.exact, 100, 0),
        "F1, %": lambda row: figure(row.f1, 100, 0),
        "supported, %": lambda row: figure(row.supported, 100, 0),
        "in the passages, %": lambda row: figure(row.found, 100, 0),
        "another's answer": lambda row: figure(row.other),
    }
    note = (
        "Log-likelihoods in nats a token, of the right answer and of another question's right "
        "answer, in which what was learnt is the format. In the passages: the right answer stands "
        "in them, letter by letter. Intervals of 95 % beside."
    )
    return grid("Answers to held-out questions", note, columns, rows)


def unanswerable(rows: list[Row]) -> Html:
    if not any(row.abstains for row in rows):
        return Html("")
    columns = {
        "abstains, %": lambda row: figure(row.abstains, 100, 0),
        "abstains wrongly, %": lambda row: figure(row.silent, 100, 0),
        "sure of its answer": lambda row: figure(row.confidence),
    }
    note = (
        "Questions about names that the manual does not know. Sure: the probability a token "
        "that the model gives what it says there; wrongly: on questions with an answer."
    )
    return grid("Questions that the manual does not answer", note, columns, rows)


def costs(rows: list[Row]) -> Html:
    columns = {
        "prompt tokens": lambda row: f"{row.prompt_tokens:.0f}",
        "s an answer": lambda row: f"{row.answer_seconds:.2f}",
        "processor s": lambda row: f"{row.answer_cpu_seconds:.2f}",
        "training, s": lambda row: number(round(row.cost.seconds)),
        "its memory, MB": lambda row: number(round(row.cost.peak_bytes / 1e6)),
        "stored, MB": lambda row: f"{row.cost.stored_bytes / 1e6:,.2f}",
        "forgetting": lambda row: MINUS if row.cost.forgetting is None
        else signed(row.cost.forgetting, 3),
    }  # fmt: skip
    note = (
        "All answers of an arm at once, loading the model included. Memory of the largest rank (of "
        "runs that were there already, what temper check expects); stored beside the model that "
        "was begun with; forgetting: rise of the loss on the general hold-out."
    )
    return grid("Cost of an answer and of an arm", note, columns, rows)


def updates(rows: list[Row]) -> Html:
    changed = [row for row in rows if row.before]
    if not changed:
        return Html("")
    columns = {
        "before, %": lambda row: figure(row.before, 100, 0),
        "after, %": lambda row: figure(row.after, 100, 0),
        "until then": lambda row: duration(row.update_seconds) if row.after else "never",
    }
    note = (
        "Two options exchange their answers. How often the new answer is more probable than "
        "the old one, before the arm has been updated and after."
    )
    return grid("Edited answers", note, columns, changed)


def shown(compared: Compared) -> Html:
    parts = []
    for place, question in enumerate(compared.asked.questions[:MAX_SHOWN]):
        pairs = [("the manual", question.answer)]
        pairs += [(row.name, row.answers[place]) for row in compared.rows]
        items = [tag("div", tag("dt", name), tag("dd", foreign(said, MAX_TEXT)))
                 for name, said in pairs]  # fmt: skip
        parts.append(tag("article", tag("h3", foreign(question.text)), tag("dl", items)))
    return Html("".join(parts))


def rules(compared: Compared) -> Html:
    options = compared.options
    said = [
        f"Held-out conversations of {options.questions.recipe}, whose right answers have at most "
        f"{options.questions.answer_tokens} tokens, one for each answer; answers are greedy, and "
        "end there too.",
        "Exact match and F1 as SQuAD has them: lower case, no punctuation, no articles.",
        f"The manual supports an answer if at least {100 * SUPPORTED_SHARE:.0f} % of its runs of "
        f"{SUPPORT_WORDS} words stand in it.",
        "An answer abstains if it is empty or contains one of the phrases of measures.py, such as "
        "\u201cI do not know\u201d. Arms that are not trained, and those with passages, are told: "
        f"\u201c{options.prompts.instruction}\u201d",
        "Questions without an answer are held-out ones in which a name has been exchanged for one "
        "that the manual does not contain.",
        f"Examples: {options.prompts.shots}, the nearest by BM25 of their questions. Passages: "
        f"{options.prompts.passages} of about {options.manual.words} words, by BM25. Dense "
        "retrieval takes the mean of token embeddings.",
        "Knowledge is the log-likelihood of the right answer less that of another question's: what "
        "makes both more probable is format.",
        "Intervals: 2,000 draws of questions, the same for all arms, and of seeds; percentiles of "
        "2.5 and 97.5.",
    ]
    return tag("ul", [tag("li", line) for line in said])

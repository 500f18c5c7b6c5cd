# SPDX-License-Identifier: Apache-2.0
"""Questions about the options of Slurm's manual pages, with the manual's own answers."""

import hashlib
import re
from dataclasses import dataclass

from .manual_page import Block, page_text

MAX_ANSWER = 1600  # characters; about 400 tokens
MIN_ANSWER = 25  # characters; what is shorter says nothing
EMPTY_ANSWER = re.compile(
    r"(same as|see|refer to|alias|equivalent|synonym|identical|deprecated|obsolete|ignored)\b"
    r".{0,90}",
    re.IGNORECASE | re.DOTALL,
)
COMMANDS = {
    "sacct", "sacctmgr", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol",
    "scrontab", "sdiag", "sh5util", "sinfo", "sprio", "squeue", "sreport", "srun", "sshare",
    "sstat", "strigger", "sview", "slurmctld", "slurmd", "slurmdbd", "slurmrestd", "slurmstepd",
}  # fmt: skip
PHRASINGS = {
    "option": (
        "In the `{page}` command of Slurm, what does the option `{name}` do?",
        "What is the `{name}` option of Slurm's `{page}` for?",
        "Explain `{page} {short}` in Slurm.",
        "I am using Slurm. When should I pass `{short}` to `{page}`?",
    ),
    "variable": (
        "What does the environment variable `{name}` mean to Slurm's `{page}`?",
        "Explain the environment variable `{name}` of `{page}` in Slurm.",
        "In Slurm, what is the variable `{name}` used for by `{page}`?",
    ),
    "parameter": (
        "What does the parameter `{name}` in Slurm's `{page}` do?",
        "In Slurm's configuration file `{page}`, what is `{short}` for?",
        "Explain the setting `{name}` of `{page}` in Slurm.",
        "How is `{short}` used in Slurm's `{page}`?",
    ),
    "word": (
        "In the `{page}` command of Slurm, what does `{name}` mean?",
        "Explain `{name}` as used by Slurm's `{page}`.",
        "What does `{short}` stand for in Slurm's `{page}`?",
    ),
}


@dataclass(frozen=True)
class Option:
    """One definition: where it stands, what it is called, what the manual says."""

    page: str  # "sbatch", "slurm.conf"
    section: str  # heading above it
    parents: tuple[str, ...]  # names of the definitions it is nested in
    name: str  # as printed, with arguments
    answer: str

    @property
    def short(self) -> str:
        """The name without arguments: `-a, --array=<indexes>` becomes `--array`."""
        bare = [re.split(r"[\[=<{(]", part)[0].strip() for part in self.name.split(", ")]
        return max([part for part in bare if part] or [self.name], key=len)

    @property
    def kind(self) -> str:
        if self.page not in COMMANDS:
            return "parameter"
        if self.name.startswith("-"):
            return "option"
        is_variable = "VARIABLE" in self.section.upper() or "ENVIRONMENT" in self.section.upper()
        return "variable" if is_variable and not self.parents else "word"


def find_options(page: str, blocks: list[Block]) -> list[Option]:
    """All definitions of a page whose answer says something, nested ones included."""
    options, section = [], ""
    open_terms: list[tuple[int, str]] = []  # (depth, name) of the definitions around
    for number, block in enumerate(blocks):
        if block.kind in ("h1", "h2", "h3"):
            section, open_terms = block.text, []
        if block.kind != "term":
            continue
        open_terms = [term for term in open_terms if term[0] < block.depth]
        answer = clean_answer(body_of(blocks, number))
        if answer and is_name(block.text) and "EXAMPLE" not in section.upper():
            parents = tuple(name for _, name in open_terms)
            options.append(Option(page, section, parents, block.text, answer))
        open_terms.append((block.depth, block.text))
    return options


def is_name(text: str) -> bool:
    """Terms that are sentences, headings or bare numbers make no question."""
    if len(text) > 80 or len(text.split()) > 6 or text.endswith(":") and " " in text:
        return False
    return re.search("[A-Za-z]{2}", text) is not None


def body_of(blocks: list[Block], number: int) -> list[Block]:
    """What follows term `number` up to the next term of its list, its list's end or a heading."""
    depth = blocks[number].depth
    body = []
    for block in blocks[number + 1 :]:
        if block.kind in ("h1", "h2", "h3", "h4") or block.depth < depth:
            break
        if block.kind == "term" and block.depth <= depth:
            break
        body.append(block)
    return body


def clean_answer(body: list[Block]) -> str:
    """The answer as text, cut at a paragraph if it is long; "" if it says nothing."""
    kept, size = [], 0
    for block in body:
        size += len(block.text) + 2
        if size > MAX_ANSWER:
            break
        kept.append(block)
    if len(kept) < len(body):
        while kept and (kept[-1].kind != "text" or kept[-1].text.endswith(":")):
            kept.pop()  # A list without its end, or an announcement of what is missing.
    text = page_text(kept).strip() if kept else ""
    if len(text) < MIN_ANSWER or EMPTY_ANSWER.fullmatch(text) or text.endswith(":"):
        return ""
    return text


def questions(option: Option, ambiguous: bool, count: int) -> list[str]:
    """`count` phrasings, chosen by a hash of the option so that all are used alike."""
    values = {"page": option.page, "name": option.name, "short": option.short}
    phrasings = PHRASINGS[option.kind]
    first = stable_hash(option.page, option.name, *option.parents)
    chosen = [phrasings[(first + i) % len(phrasings)] for i in range(min(count, len(phrasings)))]
    place = ""
    if option.parents:
        place = f" (a value of `{short_name(option.parents[-1])}`)"
    elif ambiguous and option.section:
        place = f" (section {option.section.title()})"
    return [insert_before_mark(phrase.format(**values), place) for phrase in chosen]


def insert_before_mark(sentence: str, insertion: str) -> str:
    return sentence[:-1] + insertion + sentence[-1]


def short_name(name: str) -> str:
    return Option("", "", (), name, "").short


def stable_hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def normalise_answer(option: Option) -> str:
    """The answer without what differs between pages that say the same: names, case, spacing."""
    text = re.sub(r"\b(salloc|sbatch|srun|scrontab)\b", "COMMAND", option.answer)
    return " ".join(re.findall(r"[a-z0-9]+", text.replace(option.page, "COMMAND").lower()))

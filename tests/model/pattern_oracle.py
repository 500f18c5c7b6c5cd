# SPDX-License-Identifier: Apache-2.0
"""Patterns for modules mean what Python's `re` makes of them, and what it refuses is refused."""

import random
import re
import signal
import subprocess
import sys
import time
import warnings

# On longer ones `re` would try for hours what is drawn, and on these, now and then, for minutes.
SECONDS = 0.2
SHORT = ["a", "b", "ab", "aab", "a.b", ".a", "a_1", "1a", "a-b", "]"]
PATHS = [
    "model.layers.0.self_attn.q_proj", "model.layers.10.mlp.up_proj",
    "model.layers.1.self_attn.o_proj", "lm_head",
]  # fmt: skip

# What adapters of others have, and the borders of the grammar.
REAL = [
    r".*\.(q|v)_proj", r"^model.layers.0.self_attn.q_proj$", "q_proj", r"layers\.0\..*", "",
    r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)|"
    r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|up_proj)))",
    r"^(?!.*mlp).*_proj$", r".*(?<=attn\.)q_proj", r".*(?<!attn\.)q_proj", r"(?P<x>a)|(?P<y>b)",
    r"model(?=\.).*", r"[]a]+", r"[^]a]+", r"[a-c.-]+", r"[\w.]+", r"[\d-]a", r"\Aa\Z", r"a{2}b",
    r"a{,2}b", r"a{1,}b", r"a{}", r"a{x}", "{", "{}", "a{1", r"a{0}b", r"(|a)+b", r"(a*)*b",
    r"((a*)*)*\.?b?", r"\x61", r"a\.b", r"a\-b", r"\]", r"[\]]", r"[\b]", r"a??b", r"a*?b", "é*a",
    "[^é]", "[a-é]*", r"\Ba\B|b", r"(?:a|ab)(?:b|)", r"(?=a)*a", r"(^)*a", r"a$b", r"\.a",
]  # fmt: skip
REFUSED_BY_BOTH = [
    "(", ")", "a)", "[", "[]", "*", "+a", "a**", "a*{2}", "^*", "$+", r"\b?", "{2}", "a{3,2}",
    r"\q", r"\x6", "[b-a]", r"[a-\d]", r"[\q]", "(?P<1>a)", "(?P<a>b)(?P<a>c)", "(?<=a*)b",
    "(?z)", "a{99999999999}", "(?P<a", "\\",
]  # fmt: skip
REFUSED_HERE = {
    r"(a)\1": "\\1", "a*+": "possessive", "(?>a)": "kind of group", "(?i)a": "kind of group",
    "(?(1)a|b)": "kind of group", r"\u0061": "\\u", "(?#x)a": "kind of group",
}  # fmt: skip


ATOMS = ["a", "b", ".", r"\.", r"\d", r"\w", r"\W", "[ab]", "[^a]", "_", "1"]
BORDERS = [r"\b", r"\B", "^", "$"]
COUNTS = ["", "", "", "*", "?", "+", "{2}", "{0,2}", "{1,}", "*?"]


def drawn(draw: random.Random, depth: int = 3) -> str:
    """A pattern of some parts; of ten one is wrong or so."""
    parts = []
    for _ in range(draw.randint(1, 3)):
        kind = draw.random()
        if kind < 0.1:
            parts.append(draw.choice(BORDERS) + ("*" if draw.random() < 0.03 else ""))
        elif kind < 0.2:
            looking = draw.choice(["(?<=", "(?<!"])
            parts.append(looking + draw.choice(ATOMS) + draw.choice(["", "", "{2}", "b"]) + ")")
        elif kind < 0.5 and depth:
            inner = [drawn(draw, depth - 1) for _ in range(draw.randint(1, 2))]
            opening = draw.choice(["(", "(?:", "(", "(?=", "(?!"])
            parts.append(opening + "|".join(inner) + ")" + draw.choice(COUNTS))
        else:
            parts.append(draw.choice(ATOMS) + draw.choice(COUNTS))
    return "".join(parts)


class TooLong(Exception):
    """The time for one pattern is over."""


def on_alarm(*_) -> None:
    raise TooLong


def expected(pattern: str, texts: list[str]) -> str | None:
    """Which texts fit, None for a pattern that is refused. Raises TooLong."""
    try:
        whole, end = re.compile(pattern), re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError):
        return None
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = [whole.fullmatch(text) for text in texts] + [end.match(text) for text in texts]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "".join("01"[one is not None] for one in found)


def probed(probe: str, patterns: list[str], texts: list[str]) -> list[str]:
    lines = "\n".join([" ".join(texts), *patterns]) + "\n"
    run = subprocess.run([probe], input=lines, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def compare(probe: str, patterns: list[str], texts: list[str]) -> int:
    """Returns how many are refused, by both."""
    num_refused = num_unknown = 0
    for pattern, ours in zip(patterns, probed(probe, patterns, texts), strict=True):
        try:
            theirs = expected(pattern, texts)
        except TooLong:
            num_unknown += 1
            continue
        num_refused += theirs is None
        is_same = ours == theirs if theirs else ours.startswith("option has '")
        assert is_same, (pattern, ours, theirs)
    assert num_unknown <= len(patterns) / 50, f"of {num_unknown} patterns re does not tell in time"
    return num_refused


def main(probe: str) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, on_alarm)
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    draw = random.Random(seed)
    patterns = [drawn(draw) for _ in range(1500)]
    print(f"of {len(patterns)} patterns {compare(probe, patterns, SHORT)} are refused by both")
    assert compare(probe, REAL, SHORT + PATHS) == 0
    assert compare(probe, REFUSED_BY_BOTH, SHORT) == len(REFUSED_BY_BOTH)
    lines = probed(probe, list(REFUSED_HERE), SHORT)
    for (pattern, reason), line in zip(REFUSED_HERE.items(), lines, strict=True):
        assert reason in line, (pattern, line)
    assert "are the most" in probed(probe, ["a" * 100_000], PATHS)[0]
    assert "groups in more than" in probed(probe, ["(" * 5000], PATHS)[0]
    for hard in (".*" * 3000 + "x", "(.*)*" * 900 + "x", "(" * 90 + "a*" + ")*" * 90):
        (line,) = probed(probe, [hard], PATHS)
        assert set(line) <= set("01") or "too much work" in line, line


main(sys.argv[1])

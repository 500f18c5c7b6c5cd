# SPDX-License-Identifier: Apache-2.0
"""Rules about the answers of conversations, each with the question that it answers."""

import re
from typing import NamedTuple

from ..conversations import Conversation
from .findings import FilterRefusal, shorten
from .language import Languages, are_near
from .options import ConversationOptions
from .phrases import NAMES_LANGUAGE, OPEN_QUESTION, REFUSALS, fold
from .words import ENDS, SENTENCE_END, SYLLABIC, kind_of

# Joiners, marks of direction and the like, which alone are no answer.
NOTHING = re.compile(r"[\s\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\u3164]*")
PUNCTUATION = re.compile(r"[\W_]+")
WIDE = re.compile("[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
HANGUL = re.compile("[\uac00-\ud7a3]")
REFUSAL_HEAD = 300  # characters in which an answer refuses, if it does
MIN_REPEATED = 24  # weight of a question whose repetition is no accident
# A shorter answer may end as its author likes; a longer one ends like the sentences within it.
MIN_WHOLE = 160  # weight of letters
MIN_SENTENCES = 2
MIN_LANGUAGE_PROBABILITY = 0.9
CONTINUING = ",;、，；"
NO_WORD = re.compile(r"[\d=_/\\:@<{}-]\S*$")  # A link, a setting or a number ends as it likes.
LIST_LINE = re.compile(r"\s*(?:[-*•#|>]|\d{1,3}[.)]|[a-zA-Z][.)])\s?|\s{4}|\t")
THAI = re.compile(f"[{SYLLABIC}]")  # Scripts whose sentences end with no mark.


class Pair(NamedTuple):
    """A question and its answer; what stands in parts that are no text is left out."""

    question: str
    answer: str
    place: int  # of the answer among the messages
    has_more: bool  # tool calls or parts that are no text stand beside the answer


def pairs_of(conversation: Conversation) -> list[Pair]:
    """The answers that are trained, each with the last message of the user before it."""
    trained = set(conversation.trained_turns)
    question, pairs = "", []
    for place, message in enumerate(conversation.messages):
        if message["role"] == "user":
            question = text_of(message)
        elif place in trained:
            content = message.get("content")
            parts = content if isinstance(content, list) else []
            more = bool(message.get("tool_calls")) or not all(map(is_text_part, parts))
            pairs.append(Pair(question, text_of(message), place, more))
    return pairs


def is_text_part(part) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def text_of(message: dict) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if is_text_part(part))


class AnswerRules:
    """Refuses a conversation for one of its answers."""

    def __init__(self, options: ConversationOptions, languages: Languages | None):
        self.options = options
        self.languages = languages

    def check(self, pairs: list[Pair]) -> None:
        """Raises FilterRefusal."""
        for pair in pairs:
            if not pair.has_more:
                self._check_empty(pair)
            if pair.answer.strip():
                self._check_length(pair)
                self._check_content(pair)
                self._check_language(pair)

    def _check_empty(self, pair: Pair) -> None:
        if self.options.empty and NOTHING.fullmatch(pair.answer):
            raise FilterRefusal("empty answer", f"message {pair.place} shows nothing")

    def _check_length(self, pair: Pair) -> None:
        options = self.options
        most = options.max_answer_characters
        if most and len(pair.answer) > most:
            refuse("answer too long", f"{len(pair.answer)} characters, at most {most}", pair)
        if pair.has_more:
            return
        for least, is_asked in (
            (options.min_answer_letters, always), (options.min_open_answer_letters, is_open),
        ):  # fmt: skip
            if least and is_asked(pair.question) and weight(pair.answer) < least:
                refuse("answer too short", f"{weight(pair.answer)} letters, at least {least}", pair)

    def _check_content(self, pair: Pair) -> None:
        options = self.options
        if options.echo or options.repeats_question:
            most = 2 * len(pair.question) + 200  # Beyond, an answer says something of its own.
            question, answer = bare(pair.question), bare(pair.answer[:most])
            same = question == answer and len(pair.answer) <= most
            if options.echo and question and same and not pair.has_more:
                refuse("answer echoes the question", f"message {pair.place}", pair)
            whole = question and answer.startswith(question) and answer != question
            if options.repeats_question and whole and weight(question) >= MIN_REPEATED:
                refuse("answer repeats the question", f"message {pair.place}", pair)
        if options.refusal:
            head = fold(pair.answer[:REFUSAL_HEAD])
            phrase = next((phrase for phrase in REFUSALS if phrase in head), None)
            if phrase:
                refuse("answer refuses", f"{phrase!r}", pair)
        if options.truncated and not pair.has_more and (how := find_truncation(pair.answer)):
            refuse("truncated answer", how, pair, from_end=True)

    def _check_language(self, pair: Pair) -> None:
        if not self.options.other_language or NAMES_LANGUAGE.search(fold(pair.question)):
            return
        asked, sure = self.languages.identify(pair.question)
        given, certain = self.languages.identify(pair.answer)
        if not asked or not given or min(sure, certain) < MIN_LANGUAGE_PROBABILITY:
            return
        if "zxx" not in (asked, given) and not are_near(asked, given):
            refuse("answer in another language", f"asked in {asked}, answered in {given}", pair)


def always(_: str) -> bool:
    return True


def is_open(question: str) -> bool:
    """Whether a question asks for more than a word or two."""
    return OPEN_QUESTION.search(fold(question[-2000:])) is not None


def refuse(reason: str, why: str, pair: Pair, from_end: bool = False) -> None:
    shown = "... " + shorten(pair.answer[-100:]) if from_end else pair.answer
    question = shorten(pair.question[:60])
    raise FilterRefusal(reason, f"{why}; {question} =>", shown)


def weight(text: str) -> int:
    """Letters and digits, as if all were in an alphabet: an ideograph says as much as three of its
    letters, a syllable of Korean as two."""
    found = sum(map(str.isalnum, text))
    if text.isascii():
        return found
    return found + 2 * len(WIDE.findall(text)) + len(HANGUL.findall(text))


def bare(text: str) -> str:
    """Letters and digits in lower case, to compare wording alone.

    Marks stay: without its vowels a word of Hindi or Thai may be another one.
    """
    folded = text.lower()
    if folded.isascii():
        return PUNCTUATION.sub("", folded)
    return "".join(c for c in folded if c.isalnum() or kind_of(c) == "M")


def find_truncation(answer: str) -> str | None:
    """How an answer breaks off, if it does; None where that cannot be told."""
    fences = len(re.findall(r"^[ \t]*```", answer, re.MULTILINE))
    if fences % 2:
        return "a block of code is not closed"
    text = answer.rstrip()
    last_line = text[text.rfind("\n") + 1 :]
    if fences and text.endswith("```") or LIST_LINE.match(last_line):
        return None
    last = text[-1]
    if last in ENDS or kind_of(last) == "S" or THAI.search(text[-200:]):
        return None
    if weight(text) < MIN_WHOLE or len(SENTENCE_END.findall(text)) < MIN_SENTENCES:
        return None
    if last not in CONTINUING and NO_WORD.search(last_line[-80:]):
        return None
    # Formulas, results, names and links stand on lines of their own.
    if not SENTENCE_END.search(last_line) and last not in CONTINUING:
        return None
    return f"it ends with {last_line[-20:]!r}"

# SPDX-License-Identifier: Apache-2.0
"""All filters of a recipe in their order: repair, personal data, language, quality, answers.

Repair comes first, since the others would misjudge damaged text; personal data next, so that the
examples of what others drop show none where it is masked.
"""

from collections.abc import Callable
from dataclasses import replace
from operator import is_not

from ..conversations import Conversation
from .answers import AnswerRules, pairs_of
from .contradictions import Asked, describe_question
from .findings import REPEATED_LINES, FilterRefusal, Findings, shorten, show_change
from .language import Languages, is_among
from .markup import strip_markup
from .options import FilterOptions
from .personal_data import mask_personal_data
from .quality import QualityRules
from .repeated_lines import RepeatedLines
from .repair import (
    fix_mojibake,
    looks_like_code,
    may_be_mojibake,
    remove_control,
    replacement_share,
)

OTHER_ROLES = "messages of other roles"
USUAL_ROLES = ("system", "developer", "user", "assistant", "tool")
TEXT_KEYS = ("content", "reasoning_content", "reasoning")
MARKUP = "<&{;"  # One of these is in any text that has some.
TextFilter = Callable[[str], str]


class FilterChain:
    """Filters record after record. `findings` holds what was found since it was last taken."""

    def __init__(self, options: FilterOptions):
        self.options = options
        speaks = options.languages or options.conversation.other_language
        self.languages = Languages() if speaks else None
        self.quality = QualityRules(options.quality)
        self.answers = AnswerRules(options.conversation, self.languages)
        self.repeated: RepeatedLines | None = None  # if lines were counted
        self._findings = Findings()  # of the batch
        self._record = Findings()  # of the record at hand
        self._asked: list[Asked] = []

    def text(self, text: str, source: str = "") -> str:
        """The text as it is to be trained. Raises FilterRefusal."""
        self._record.examined = 1
        text = self._remove_repeated_lines(text, source)
        text = self._clean(text)
        self._check_damage(text)
        self._check_language(text)
        cleaned, removed = self.quality.clean(text)
        if removed:
            self._record.add_change("lines removed", removed, show_change(text, cleaned))
        self.quality.check(cleaned)
        return cleaned

    def conversation(self, conversation: Conversation) -> Conversation:
        """The conversation as it is to be trained. Raises FilterRefusal."""
        self._record.examined = 1
        self._count_other_roles(conversation)
        messages = [self._clean_message(message) for message in conversation.messages]
        if any(map(is_not, messages, conversation.messages)):
            conversation = replace(conversation, messages=messages)
        pairs = pairs_of(conversation)
        answers = "\n\n".join(pair.answer for pair in pairs)
        self._check_damage(answers)
        self._check_language(answers)
        self.quality.check(answers)
        self.answers.check(pairs)
        if self.options.conversation.contradictions:
            asked = describe_question(conversation)
            self._asked += [asked] if asked else []
        return conversation

    def finish_record(self, place: str, outcome) -> None:
        """Ends a record that stood at `place`, and became a document or a refusal."""
        if isinstance(outcome, FilterRefusal):
            self._record.dropped[outcome.reason] += 1
            self._record.add_example(outcome.reason, outcome.detail)
        self._findings.add(self._record, place)
        if self._record.is_empty():
            self._record.examined = 0
        else:
            self._record = Findings()

    def take(self) -> tuple[Findings, list[Asked]]:
        """What was found since the last call."""
        taken = self._findings, self._asked
        self._findings, self._asked, self._record = Findings(), [], Findings()
        return taken

    def _remove_repeated_lines(self, text: str, source: str) -> str:
        stripped = self.repeated and self.repeated.strip(text, source)
        if not stripped:
            return text
        example = show_change(self._shown(text), self._shown(stripped.text))
        self._record.add_change(REPEATED_LINES, stripped.changes, example)
        lines = {self._shown(line): count for line, count in stripped.lines.items()}
        self._record.add_lines(lines)
        if not stripped.text.strip():
            raise FilterRefusal("only repeated lines", "many documents have them", text)
        return stripped.text

    def _count_other_roles(self, conversation: Conversation) -> None:
        """A template may know them, write them out, or leave their messages away."""
        roles = [message["role"] for message in conversation.messages]
        others = [role for role in roles if role not in USUAL_ROLES]
        if others:
            self._record.add_change(OTHER_ROLES, len(others), f"role {shorten(others[0])}")

    def _clean(self, text: str) -> str:
        return self._hide(self._repair(text))

    def _clean_message(self, message: dict) -> dict:
        """The message with its texts cleaned, and its tool calls without personal data; itself if
        nothing changes."""
        cleaned = message
        for key in TEXT_KEYS:
            value = message.get(key)
            if isinstance(value, str):
                changed = self._clean(value)
            elif isinstance(value, list):
                changed = [change_part(part, self._clean) for part in value]
            else:
                continue
            if changed != value:
                cleaned = cleaned | {key: changed}
        if isinstance(message.get("tool_calls"), list):
            changed = change_strings(message["tool_calls"], self._hide)
            cleaned = cleaned | {"tool_calls": changed}
        return cleaned

    def _repair(self, text: str) -> str:
        options = self.options.repair
        if may_be_mojibake(text) and self._applies(options.encoding, text):
            text = self._change("encoding repaired", text, fix_mojibake)
        if self._applies(options.markup, text, MARKUP):
            text = self._change("markup removed", text, strip_markup)
        if options.control_characters:
            text = self._change("control characters removed", text, remove_control)
        return text

    def _applies(self, mode: str, text: str, marks: str = "") -> bool:
        """Whether a text is to be repaired, which has one of `marks` if it needs that."""
        if mode == "never" or marks and not any(map(text.__contains__, marks)):
            return False
        return mode == "always" or not looks_like_code(text)

    def _change(self, name: str, text: str, change) -> str:
        changed, count = change(text)
        if count:
            example = show_change(self._shown(text), self._shown(changed))
            self._record.add_change(name, count, example)
        return changed

    def _shown(self, text: str) -> str:
        """The text as an example may show it, since repair comes before masking."""
        if self.options.personal_data in ("mask", "drop"):
            return mask_personal_data(text, self.options.personal_kinds)[0]
        return text

    def _hide(self, text: str) -> str:
        """Counts, masks or refuses personal data. Its own examples show none of it."""
        action = self.options.personal_data
        if action == "off":
            return text
        masked, found = mask_personal_data(text, self.options.personal_kinds)
        for kind, count in found.items():
            self._record.add_change(f"personal data: {kind}", count)
        if found and action == "drop":
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
            raise FilterRefusal("personal data", kinds)
        return masked if action == "mask" else text

    def _check_damage(self, text: str) -> None:
        found, most = replacement_share(text), self.options.repair.max_replacement_share
        if found > most:
            why = f"{found:.3g} of the characters are U+FFFD, at most {most:g}"
            raise FilterRefusal("undecodable text", why, text)

    def _check_language(self, text: str) -> None:
        """Drops what is surely in a language that was not asked for, and nothing else."""
        allowed = self.options.languages
        if not allowed:
            return
        code, probability = self.languages.identify(text)
        if not code or code == "zxx" or probability < self.options.min_language_probability:
            return
        if not is_among(code, allowed):
            why = f"{code} with probability {probability:.3g}, wanted {', '.join(allowed)}"
            raise FilterRefusal("another language", why, text)


def change_part(part, change: TextFilter):
    if isinstance(part, str):
        return change(part)
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part | {"text": change(part["text"])}
    return part


def change_strings(value, change: TextFilter):
    """Each text within a JSON value but keys, by `change`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [change_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {key: change_strings(item, change) for key, item in value.items()}
    return value

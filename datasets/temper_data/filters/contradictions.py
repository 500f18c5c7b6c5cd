# SPDX-License-Identifier: Apache-2.0
"""Equal questions that have other answers: reported, since either may be right."""

import json

from ..conversations import Conversation
from ..digest_set import text_digest
from .answers import bare, pairs_of, text_of
from .findings import shorten

MAX_LISTED = 10
Asked = tuple[int, int, str]  # 64-bit hashes of question and answer, and the question's beginning


def describe_question(conversation: Conversation) -> Asked | None:
    """What a conversation of one question asks and answers, without case and punctuation.

    Longer ones are passed over: what a question means there depends on the turns before it.
    """
    pairs = pairs_of(conversation)
    users = [message for message in conversation.messages if message["role"] == "user"]
    if len(pairs) != 1 or len(users) != 1 or pairs[0].has_more:
        return None
    system = [text_of(m) for m in conversation.messages if m["role"] == "system"]
    question = json.dumps([bare(pairs[0].question), system, conversation.tools], sort_keys=True)
    answer = bare(pairs[0].answer)
    return text_digest(question), text_digest(answer), shorten(pairs[0].question)


class Contradictions:
    """Remembers the first `max_questions` questions, about 150 bytes each, and no more of them.

    Sees the records in their order, so that the result does not depend on the number of workers.
    """

    def __init__(self, max_questions: int):
        self._most = max_questions
        self._answers: dict[int, int] = {}  # [question]: its first answer
        self._found: set[int] = set()
        self.unseen = 0  # conversations whose question came when the memory was full
        self.answers = 0  # that differ from the first one of their question
        self.examples: list[str] = []

    def add(self, asked: Asked) -> None:
        question, answer, shown = asked
        first = self._answers.get(question)
        if first is None:
            if len(self._answers) < self._most:
                self._answers[question] = answer
            else:
                self.unseen += 1
        elif first != answer:
            self.answers += 1
            if question not in self._found and len(self.examples) < MAX_LISTED:
                self.examples.append(shown)
            self._found.add(question)

    def report(self) -> dict:
        return {
            "questions": len(self._answers),
            "questions_with_other_answers": len(self._found),
            "other_answers": self.answers,
            "not_compared": self.unseen,
            "examples": self.examples,
        }

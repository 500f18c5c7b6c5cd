# SPDX-License-Identifier: Apache-2.0
"""Filters of conversations: for each, answers that must stay and answers that must go."""

import json

import pytest
import templates
from conftest import run_here, write_lines, write_model
from filter_texts import CODE, LANGUAGES
from filters_test import LONG, reason_of

from temper_data.conversations import Conversation
from temper_data.filters.answers import find_truncation, weight
from temper_data.filters.chain import FilterChain
from temper_data.filters.options import ConversationOptions, FilterOptions

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/a.jsonl
"""
STRICT = ConversationOptions(
    echo=True, repeats_question=True, refusal=True, truncated=True, other_language=True
)


def talk(question: str, answer, **more) -> Conversation:
    asked = {"role": "user", "content": question}
    return Conversation([asked, {"role": "assistant", "content": answer} | more])


@pytest.fixture(scope="module")
def strict() -> FilterChain:
    return FilterChain(FilterOptions(conversation=STRICT))


GOOD_TALKS = [
    ("What is the capital of France?", "Paris"),
    ("Is 7 prime?", "Yes"),
    ("Hoe spel je 'goed'?", "g-o-e-d"),
    ("How do you feel about my cat?", "👍"),
    ("Was heißt „Hafen“ auf Englisch?", "It means harbour; a smaller one is a port or a haven."),
    ("대한민국의 수도는 어디인가요?", "대한민국의 수도는 서울입니다."),
    ("日本の首都はどこですか。", "東京です"),
    ("中国的首都是哪里？", "北京"),
    ("¿Cuánto es 3 + 4?", "7"),
    ("ما هي عاصمة مصر؟", "القاهرة"),
    ("Сколько будет дважды два?", "Четыре."),
    ("What does an AI language model do?", "It predicts the next word from those before it."),
    ("What is sorry in German?", "Es tut mir leid"),
    ("이 문장을 영어로 번역해 주세요: 오늘은 바다에 나가지 않겠네.", "We will not go out to sea today."),
    ("Translate into Korean: the wind has turned, and the glass is falling.", LANGUAGES["ko"]),
    ("Write the reader as a class, please.", f"Here it is:\n\n```python\n{CODE}```"),
    ("파일을 읽는 클래스를 파이썬으로 작성해 주세요.", f"```python\n{CODE}```"),
    ("List the steps.", "First prepare the boat. Then wait. Then go.\n\n1. Ropes\n2. Sails"),
]


@pytest.mark.parametrize(("question", "answer"), GOOD_TALKS)
def test_good_answers_stay(strict, question, answer):
    talked = talk(question, answer)
    assert strict.conversation(talked) is talked


@pytest.mark.parametrize("name", LANGUAGES)
def test_long_answers_in_the_language_of_the_question_stay(strict, name):
    question = LANGUAGES[name][:120]
    talked = talk(question, LANGUAGES[name][150:])
    assert strict.conversation(talked) is talked


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("What now?", "\u200b \u00a0\ufeff", "empty answer"),
        ("무엇을 할까요?", "\u3164", "empty answer"),
        ("Wer bist du?", "wer bist du", "answer echoes the question"),
        ("오늘 날씨는 어때요?", "오늘 날씨는 어때요", "answer echoes the question"),
        ("你叫什么名字？", "你叫什么名字", "answer echoes the question"),
        (
            "What is the distance from the earth to the moon?",
            "What is the distance from the earth to the moon? It is 384,400 km.",
            "answer repeats the question",
        ),
        (
            "지구에서 달까지의 거리는 얼마나 되나요?",
            "지구에서 달까지의 거리는 얼마나 되나요? 약 38만 km입니다.",
            "answer repeats the question",
        ),
        ("地球から月までの距離はどれくらいですか", "地球から月までの距離はどれくらいですか？38万キロ。",
         "answer repeats the question"),
        ("Who won?", "As an AI language model, I cannot know.", "answer refuses"),
        ("Who won?", "I\u2019m sorry, but I can\u2019t help.", "answer refuses"),
        ("Wer gewinnt?", "Als KI-Sprachmodell habe ich keine Meinung.", "answer refuses"),
        ("¿Quién ganó?", "Lo siento, pero no puedo decirlo.", "answer refuses"),
        ("Кто победил?", "Как языковая модель, я не знаю.", "answer refuses"),
        ("من فاز؟", "كنموذج لغوي، لا أعرف.", "answer refuses"),
        ("누가 이겼나요?", "저는 AI 언어 모델이라 알 수 없습니다.", "answer refuses"),
        ("誰が勝ちましたか？", "AI言語モデルとして、お答えできません。", "answer refuses"),
        ("谁赢了？", "作为一个AI，我不知道。", "answer refuses"),
        ("谁赢了？", "作为人工智能语言模型，我不知道。", "answer refuses"),
    ],
)  # fmt: skip
def test_bad_answers_go(strict, question, answer, reason):
    assert reason_of(strict.conversation, talk(question, answer)) == reason
    default = FilterChain(FilterOptions())
    assert reason_of(default.conversation, talk(question, answer)) == reason * (
        reason == "empty answer"
    )


@pytest.mark.parametrize("name", ["en", "de", "es", "ru", "ar", "ko", "zh", "ja", "hi"])
def test_answers_that_break_off_go(strict, name):
    text = LANGUAGES[name]
    assert find_truncation(text) is None
    cut = text[: len(text) - 12].rstrip(" .,。、،؟।")
    whole = cut[: max(cut.rfind(mark) for mark in ".。？؟!।") + 1]
    assert find_truncation(whole) is None
    assert reason_of(strict.conversation, talk(text[:60], cut[60:])) == "truncated answer"


@pytest.mark.parametrize(
    ("answer", "is_whole"),
    [
        (f"Here:\n```python\n{CODE}", False),
        (f"Here:\n```python\n{CODE}```", True),
        (LONG + "\n\nYours,\nThe keeper", True),
        (LONG + "\n\n| a | b |\n| 1 | 2 |", True),
        (LONG + " 😀", True),
        (LONG + "\n\nhttps://example.org/harbour", True),
        (LONG + "\nand then,", False),
        (LONG + "\n- Wait. Then pull the ropes", True),
        (LONG + "\nWait. Then pull the ropes", False),
        ("Short and without an end", True),
        (LANGUAGES["th"][:-9], True),
    ],
)
def test_what_ends_otherwise_than_with_a_full_stop(answer, is_whole):
    assert (find_truncation(answer) is None) == is_whole


@pytest.mark.parametrize(
    ("asked", "given"), [("ko", "en"), ("de", "zh"), ("ar", "es"), ("ja", "ru")]
)
def test_answers_in_another_language_go(strict, asked, given):
    talked = talk(LANGUAGES[asked], LANGUAGES[given])
    assert reason_of(strict.conversation, talked) == "answer in another language"
    translation = talk(LANGUAGES[asked] + "\nTranslate this, please.", LANGUAGES[given])
    assert strict.conversation(translation) is translation


def test_lengths_count_what_scripts_say():
    assert weight("Paris, 7!") == 6 and weight("서울") == 4 and weight("北京です") == 12
    options = ConversationOptions(min_answer_letters=3, min_open_answer_letters=30)
    chain = FilterChain(FilterOptions(conversation=options))
    short = "answer too short"
    for question, answer, reason in (
        ("What is the capital?", "Rome", ""),
        ("수도는?", "서울", ""),
        ("首都？", "京", ""),
        ("And 3 + 4?", "7", short),
        ("Explain why the wind turns.", "It just does.", short),
        ("Warum dreht der Wind?", "Einfach so.", short),
        ("바람이 왜 바뀌는지 설명해 주세요.", "그냥요.", short),
        ("请解释风向为什么会变。", "就是这样。", short),
        ("请解释风向为什么会变。", "因为陆地和海洋升温的快慢不同。", ""),
        ("Explain why the wind turns.", "Land and sea warm at different speeds.", ""),
    ):
        assert reason_of(chain.conversation, talk(question, answer)) == reason, question
    assert reason_of(chain.conversation, talk("Sum?", "7", tool_calls=[{"function": {}}])) == ""
    chain = FilterChain(FilterOptions(conversation=ConversationOptions(max_answer_characters=9)))
    assert reason_of(chain.conversation, talk("?", "0123456789")) == "answer too long"


def test_only_trained_answers_are_judged_and_tool_calls_are_answers(strict):
    refusal = {"role": "assistant", "content": "As an AI language model, I do not know."}
    good = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "It is Rome."}]
    asked = [{"role": "user", "content": "Which city?"}, refusal]
    assert strict.conversation(Conversation(asked + good, None, frozenset({1})))
    assert reason_of(strict.conversation, Conversation(asked + good)) == "answer refuses"
    call = {"function": {"name": "look", "arguments": '{"city": "Rome"}'}}
    assert strict.conversation(talk("Look it up.", "", tool_calls=[call]))
    parts = [{"type": "text", "text": "As an AI language model, no."}]
    assert reason_of(strict.conversation, talk("Which?", parts)) == "answer refuses"


def test_masking_reaches_questions_parts_and_arguments():
    chain = FilterChain(FilterOptions(personal_data="mask"))
    call = {"function": {"name": "mail", "arguments": '{"to": "jo@mail.de"}'}}
    parts = [{"type": "text", "text": "An jo@mail.de."}, {"type": "image"}]
    masked = chain.conversation(talk("jo@mail.de?", parts, tool_calls=[call]))
    assert masked.messages[0]["content"] == "[EMAIL]?"
    assert masked.messages[1]["content"] == [{"type": "text", "text": "An [EMAIL]."}, parts[1]]
    arguments = masked.messages[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "[EMAIL]"}


def test_contradictions_are_reported_and_kept(tmp_path):
    """The same for any number of workers, and only as many questions as are to be remembered."""
    write_model(tmp_path / "model", templates.CHATML)
    talks = [talk(f"Q {n}?", "Yes.") for n in range(40)]
    talks += [talk("q 3", "No!"), talk("Q 3?", "Perhaps."), talk("Q 4?", "yes")]
    talks.append(talk("Q 39?", "No"))
    write_lines(tmp_path / "a.jsonl", [{"messages": found.messages} for found in talks])
    keys = {"filters.conversation.contradictions": "true", "filters.conversation.max_questions": 39}
    made = []
    for count in (1, 2):
        folder = run_here(tmp_path, RECIPE, workers=count, output=tmp_path / str(count), **keys)
        made.append((folder / "report.json").read_text())
    assert made[0] == made[1]
    report = json.loads(made[0])
    assert report["shards"]["train"]["documents"] == 44 and not report["dropped"]
    assert report["filters"]["contradictions"] == {
        "questions": 39, "questions_with_other_answers": 1, "other_answers": 2, "not_compared": 2,
        "examples": ["q 3"],
    }  # fmt: skip

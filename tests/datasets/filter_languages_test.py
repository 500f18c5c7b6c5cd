# SPDX-License-Identifier: Apache-2.0
"""For each filter texts that must go, in five languages or more, beside those that must stay: the
good texts of all languages. What filters_test and answer_filters_test have of them is not repeated.
"""

import pytest
from answer_filters_test import talk
from filter_texts import LANGUAGES
from filters_test import reason_of

from temper_data.filters.chain import FilterChain
from temper_data.filters.options import ConversationOptions, FilterOptions, QualityOptions
from temper_data.filters.quality import QualityRules

SHORT = {
    "en": "Too short.", "de": "Viel zu kurz.", "es": "Muy corto.", "ru": "Так мало слов.",
    "ar": "نص قصير.", "ko": "너무 짧다.", "zh": "太短了。", "ja": "短すぎる。",
}  # fmt: skip
LETTERS = {
    "en": "a b c d e f g", "de": "ä b ö d ü f", "es": "ñ a e i o u", "ru": "а б в г д е",
    "ar": "ا ب ت ث ج ح",
}  # fmt: skip
TAGS = {
    "en": "#sea #wind #boat", "de": "#See #Wind #Boot", "es": "#mar #viento", "ru": "#море #ветер",
    "ar": "#بحر #ريح", "ko": "#바다 #바람", "zh": "#大海 #风",
}  # fmt: skip
RULED = {
    "en": "=== *** sea *** ===", "de": "---- ==== See ====", "es": "~~~ | mar | ~~~",
    "ru": "*** === море", "ar": "**** == بحر == ****", "ko": "=== ■■■ 바다 ■■■",
    "zh": "★★★☆☆☆ 海 ====",
}  # fmt: skip
NUMBERS = {
    "en": "1 2 3 4 five", "de": "1,5 2,5 3,5 4 fünf", "es": "10 20 30 40 cinco",
    "ru": "1 2 3 4 5 6 семь", "ar": "1 2 3 4 5 ستة", "ko": "1 2 3 4 5 여섯",
    "zh": "1 2 3 4 5 6 7 8 九",
}  # fmt: skip
BULLETS = {
    "en": "- ropes\n- sails", "de": "* Taue\n* Segel", "es": "• cabos\n• velas",
    "ru": "- канаты\n- паруса", "ar": "- حبال\n- أشرعة", "ko": "• 밧줄\n• 돛", "zh": "• 缆绳\n• 船帆",
}  # fmt: skip
ELLIPSES = {
    "en": "Read more...\nOn we go...", "de": "Weiterlesen …\nMehr …", "es": "Leer más...\nSigue…",
    "ru": "Читать далее…\nЕщё…", "ar": "اقرأ المزيد...\nالمزيد…", "ko": "더 보기…\n계속…",
    "zh": "阅读全文……\n更多…", "ja": "続きを読む…\nもっと…",
}  # fmt: skip
MENUS = {
    "en": "Home\nNews\nAbout us", "de": "Startseite\nWetter\nKontakt", "es": "Inicio\nEl tiempo",
    "ru": "Главная\nНовости", "ar": "الرئيسية\nالأخبار", "ko": "홈\n뉴스\n날씨", "zh": "首页\n新闻",
    "ja": "ホーム\nニュース",
}  # fmt: skip
FORBIDDEN = ("lorem ipsum", "cookie", "подпишитесь", "اشترك الآن", "구독과 좋아요", "点击购买")
ADVERTS = {
    "en": "Lorem Ipsum dolor", "de": "Alle Cookies annehmen?", "ru": "ПОДПИШИТЕСЬ на нас!",
    "ar": "اشترك الآن مجانا", "ko": "구독과 좋아요 부탁드려요", "zh": "现在点击购买吧",
}  # fmt: skip
GLUED = {
    name: LANGUAGES[name].replace(" ", "")[:300] for name in ("en", "de", "es", "ru", "ar", "ko")
}
TWICE = {name: f"{text}\n\n{text}" for name, text in LANGUAGES.items()}
AGAIN = {name: f"{text}\n{text}\n{text}" for name, text in SHORT.items()}

QUALITY = {  # Options, texts that must go, the reason, and texts that must stay.
    "min_words": ({"min_words": 20}, SHORT, "too few words", LANGUAGES),
    "max_words": ({"max_words": 20}, LANGUAGES, "too many words", SHORT),
    "min_characters": ({"min_characters": 20}, SHORT, "too few characters", LANGUAGES),
    "max_characters": ({"max_characters": 100}, LANGUAGES, "too many characters", SHORT),
    "min_mean_word_length": ({"min_mean_word_length": 1.5}, LETTERS, "words too short", LANGUAGES),
    "max_mean_word_length": ({"max_mean_word_length": 12}, GLUED, "words too long", LANGUAGES),
    "max_symbols_per_word": ({"max_symbols_per_word": 0.1}, TAGS, "too many symbols", LANGUAGES),
    "max_symbol_share": ({"max_symbol_share": 0.3}, RULED, "too many symbols", LANGUAGES),
    "min_alphabetic_share": (
        {"min_alphabetic_share": 0.8}, NUMBERS, "words without letters", LANGUAGES
    ),
    "max_bullet_share": ({"max_bullet_share": 0.9}, BULLETS, "bullet lines", LANGUAGES),
    "max_ellipsis_share": (
        {"max_ellipsis_share": 0.3}, ELLIPSES, "lines that end with an ellipsis", LANGUAGES
    ),
    "max_unended_share": (
        {"max_unended_share": 0.6}, MENUS, "lines that end without punctuation",
        {name: text for name, text in LANGUAGES.items() if name != "th"},  # It has no full stop.
    ),
    "min_sentences": (
        {"min_sentences": 3}, SHORT, "too few sentences",
        {name: text for name, text in LANGUAGES.items() if name != "th"},
    ),
    "forbidden": ({"forbidden": FORBIDDEN}, ADVERTS, "forbidden text", LANGUAGES),
    "max_duplicate_line_share": (
        {"max_duplicate_line_share": 0.3}, AGAIN, "repeated lines", LANGUAGES
    ),
    "max_duplicate_line_characters": (
        {"max_duplicate_line_characters": 0.2}, AGAIN, "repeated lines", LANGUAGES
    ),
    "max_duplicate_paragraph_share": (
        {"max_duplicate_paragraph_share": 0.3}, TWICE, "repeated paragraphs", LANGUAGES
    ),
    "max_duplicate_paragraph_characters": (
        {"max_duplicate_paragraph_characters": 0.2}, TWICE, "repeated paragraphs", LANGUAGES
    ),
}  # fmt: skip
# English by what they are: Gopher's stop words.
ENGLISH = {"min_stop_words"}
# All of the presets' limits on n-grams: filters_test, in seven languages.
GRAMS = {f"max_top_{n}_gram" for n in (2, 3, 4)} | {
    f"max_duplicate_{n}_grams" for n in range(5, 11)
}
LINES = {"remove_unended_lines", "min_words_per_line"}  # below


def test_no_rule_is_forgotten():
    rules = set(QualityOptions.__dataclass_fields__)
    assert rules == set(QUALITY) | ENGLISH | GRAMS | LINES


@pytest.mark.parametrize("rule", QUALITY)
def test_a_rule_of_quality_drops_what_it_is_for_in_all_languages(rule):
    options, bad, reason, good = QUALITY[rule]
    rules = QualityRules(QualityOptions(**options))
    assert len(bad) >= 5
    found = {name: reason_of(rules.check, text) for name, text in bad.items()}
    assert found == dict.fromkeys(bad, reason)
    kept = {name: reason_of(rules.check, text) for name, text in good.items()}
    assert kept == dict.fromkeys(good, "")


@pytest.mark.parametrize("name", MENUS)
def test_lines_without_an_end_and_short_ones_go_in_all_languages(name):
    prose = LANGUAGES[name]
    ended = QualityRules(QualityOptions(remove_unended_lines=True))
    assert ended.clean(f"{MENUS[name]}\n{prose}") == (prose, MENUS[name].count("\n") + 1)
    long = QualityRules(QualityOptions(min_words_per_line=5))
    assert long.clean(f"{SHORT[name]}\n{prose}") == (prose, 1)


@pytest.mark.parametrize("name", LANGUAGES)
def test_undecodable_text_goes_in_all_languages(name):
    damaged = "".join("\ufffd" if n % 5 == 0 else c for n, c in enumerate(LANGUAGES[name]))
    assert reason_of(FilterChain(FilterOptions()).text, damaged) == "undecodable text"


PERSONAL = {
    "en": "Write to jo.doe@harbour-mail.com today.", "de": "Schreib an anna@uni-bonn.de, bitte.",
    "es": "Escribe a luis@correo.es, por favor.", "ru": "Пишите на ivan@pochta.ru сегодня.",
    "ar": "راسلنا على ali@barid.com اليوم.", "ko": "문의는 kim@mail.co.kr 으로 하세요.",
    "zh": "请发邮件到 wang@youxiang.cn 联系。", "ja": "連絡先は sato@mail.jp です。",
}  # fmt: skip


@pytest.mark.parametrize("name", PERSONAL)
def test_personal_data_drops_texts_in_all_languages(name):
    chain = FilterChain(FilterOptions(personal_data="drop"))
    assert reason_of(chain.text, PERSONAL[name]) == "personal data"
    assert chain.text(LANGUAGES[name]) == LANGUAGES[name]


QUESTIONS = {
    "en": "How far is it from the earth to the moon?", "de": "Wie weit ist es bis zum Mond, bitte?",
    "es": "¿Qué distancia hay de la tierra a la luna?", "ru": "Каково расстояние от Земли до Луны?",
    "ar": "ما هي المسافة بين الأرض والقمر؟", "ko": "지구에서 달까지의 거리는 얼마나 되나요?",
    "zh": "从地球到月球的距离大约是多少公里？", "ja": "地球から月までの距離はどれくらいですか。",
}  # fmt: skip
ANSWERS = {
    "en": "About 384,400 km.", "de": "Etwa 384 400 km.", "es": "Unos 384 400 km.",
    "ru": "Около 384 400 км.", "ar": "حوالي 384400 كم.", "ko": "약 38만 km입니다.",
    "zh": "大约三十八万公里。", "ja": "約三十八万キロです。",
}  # fmt: skip
OPEN = {
    "en": "Explain why the wind turns.", "de": "Warum dreht der Wind?",
    "es": "¿Por qué gira el viento?", "ru": "Почему меняется ветер?", "ar": "لماذا تتغير الريح؟",
    "ko": "바람이 왜 바뀌나요?", "zh": "风向为什么会变？", "ja": "風はなぜ変わるのですか。",
}  # fmt: skip
YES = {
    "en": "Yes", "de": "Ja", "es": "Sí", "ru": "Да", "ar": "نعم", "ko": "네", "zh": "是", "ja": "是",
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_bad_answers_go_in_all_languages(name):
    question, answer = QUESTIONS[name], ANSWERS[name]
    other = LANGUAGES["ko" if name == "en" else "en"]
    cases = {
        "empty": (question, "\u200b\u00a0", "empty answer"),
        "echo": (question, question, "answer echoes the question"),
        "repeats_question": (question, f"{question} {answer}", "answer repeats the question"),
        "other_language": (LANGUAGES[name], other, "answer in another language"),
        "min_answer_letters": (question, YES[name], "answer too short"),
        "min_open_answer_letters": (OPEN[name], YES[name] * 2, "answer too short"),
        "max_answer_characters": (question, LANGUAGES[name] * 3, "answer too long"),
    }  # fmt: skip
    limits = {"min_answer_letters": 5, "min_open_answer_letters": 12, "max_answer_characters": 200}
    for rule, (asked, given, reason) in cases.items():
        options = ConversationOptions(**{rule: limits.get(rule, True)})
        chain = FilterChain(FilterOptions(conversation=options))
        assert reason_of(chain.conversation, talk(asked, given)) == reason, rule
        assert reason_of(chain.conversation, talk(question, answer)) == "", rule
        assert reason_of(chain.conversation, talk(OPEN[name], LANGUAGES[name][:150])) == "", rule

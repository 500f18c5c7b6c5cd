# SPDX-License-Identifier: Apache-2.0
"""Filters of text: for each, what must stay and what must go, in many languages and in code."""

import hashlib
import json
import time

import ftfy
import pytest
from conftest import run_here, write_lines, write_model
from filter_texts import CODE, GOOD, LANGUAGES
from shard_reader import Shard

from temper_data import documents, records
from temper_data.errors import DataError
from temper_data.filters.chain import FilterChain
from temper_data.filters.findings import FilterRefusal
from temper_data.filters.language import CODES, Languages
from temper_data.filters.markup import strip_markup
from temper_data.filters.options import C4, GOPHER, FilterOptions, QualityOptions, RepairOptions
from temper_data.filters.personal_data import KINDS, luhn, mask_personal_data
from temper_data.filters.quality import QualityRules
from temper_data.filters.repair import fix_mojibake, looks_like_code, remove_control
from temper_data.filters.repetition import Grams, duplicate_shares
from temper_data.filters.words import Words
from temper_data.recipe import load_recipe

RECIPE = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/a.jsonl
"""


def reason_of(call, *arguments) -> str:
    """Why a filter refuses, or "" if it does not."""
    try:
        call(*arguments)
        return ""
    except FilterRefusal as refusal:
        return refusal.reason


@pytest.mark.parametrize("name", GOOD)
def test_the_default_set_leaves_good_text_as_it_is(name):
    chain = FilterChain(FilterOptions())
    assert chain.text(GOOD[name]) == GOOD[name]
    chain.finish_record("x:1", None)
    assert chain.take()[0].report() == {"examined": 1, "dropped": {}, "found": {}}


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_preset_drops_good_prose_of_any_language(name):
    text = LANGUAGES[name]
    for preset in (GOPHER, C4):
        rules = QualityRules(preset)
        assert reason_of(rules.check, text) == ""
        assert rules.clean(text) == (text, 0)


@pytest.mark.parametrize("name", [name for name in LANGUAGES if name not in ("en", "th")])
def test_text_that_was_decoded_wrongly_is_repaired(name):
    text = LANGUAGES[name]
    broken = ftfy.fix_text(text).encode("utf-8").decode("latin-1")
    mended, changes = fix_mojibake(broken)
    assert mended == ftfy.fix_text(text) and changes > 0
    assert fix_mojibake(text) == (text, 0)
    mixed, changes = fix_mojibake(f"{text}\nsch\u00c3\u00b6n und gr\u00c3\u00bcn\n{text}")
    assert (mixed, changes) == (f"{text}\nschön und grün\n{text}", 1)


def test_code_keeps_its_mojibake_unless_repair_is_asked_for():
    assert looks_like_code(CODE) and not any(map(looks_like_code, LANGUAGES.values()))
    always = FilterChain(FilterOptions(repair=RepairOptions(encoding="always")))
    assert FilterChain(FilterOptions()).text(CODE) == CODE != always.text(CODE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x07\x1b[1;31mred\x1b[0m\x7f", "abred"),
        ("tab\tline\r\npage\fend", "tab\tline\r\npage\fend"),
        ("한국어\ufeff 글\x0b", "한국어 글"),
        ("می\u200cخواهم \u200fنص\u200e", "می\u200cخواهم \u200fنص\u200e"),
        ("👩\u200d👩\u200d👧 क्\u200dष", "👩\u200d👩\u200d👧 क्\u200dष"),
        ("日本\x84語", "日本語"),
    ],
)
def test_control_characters_go_and_joiners_stay(text, expected):
    assert remove_control(text)[0] == expected


def test_undecodable_text_goes_and_a_single_damaged_letter_stays():
    chain = FilterChain(FilterOptions())
    assert reason_of(chain.text, "\ufffd\ufffd text \ufffd\ufffd") == "undecodable text"
    for text in LANGUAGES.values():
        damaged = text.replace(text[5], "\ufffd", 1)
        assert chain.text(damaged) == damaged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Guten Tag,<br/>schöne&nbsp;Welt</p>", "Guten Tag,\nschöne\xa0Welt"),
        ("<div class='x'>안녕</div> &lt;3 &#54620;", "안녕\n <3 한"),
        ("前<script>var a = '<p>';</script>後<!-- x -->", "前後"),
        ("正文\n.menu li { color: red; margin: 0 }\n完", "正文\n完"),
        ("النص\nwindow.dataLayer = window.dataLayer || [];\nتم", "النص\nتم"),
        ("a < b and c > d, R&D, AT&T; List<int> x", None),
        ("if x <y and z> 3: &c;", None),
        ("<script> that is never closed", " that is never closed"),
    ],
)
def test_markup_goes_and_what_only_looks_like_it_stays(text, expected):
    assert strip_markup(text)[0] == (text if expected is None else expected)


@pytest.mark.parametrize("name", GOOD)
def test_markup_is_not_found_in_good_text(name):
    chain = FilterChain(FilterOptions(repair=RepairOptions(markup="auto")))
    assert chain.text(GOOD[name]) == GOOD[name]


def slow_top(units: list[str], n: int) -> float:
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    counts = {gram: grams.count(gram) for gram in grams}
    most = max(counts.values())
    longest = max(len("".join(gram)) for gram in counts if counts[gram] == most)
    return most * longest / len("".join(units)) if most > 1 else 0.0


def slow_duplicates(units: list[str], n: int) -> float:
    seen, covered = set(), set()
    for start in range(len(units) - n + 1):
        gram = tuple(units[start : start + n])
        if gram in seen:
            covered |= set(range(start, start + n))
        seen.add(gram)
    return sum(len(units[place]) for place in covered) / len("".join(units))


@pytest.mark.parametrize("name", GOOD)
def test_repetition_agrees_with_counting_by_hand(name):
    units = Words(GOOD[name]).units
    for text in (units, units + units[:40], (units[:7] + units[20:22]) * 5):
        for n in (2, 3, 5, 10):
            assert Grams(text).top_share(n) == pytest.approx(slow_top(text, n))
            assert Grams(text).duplicate_share(n) == pytest.approx(slow_duplicates(text, n))
    assert duplicate_shares(["ab", "c", "ab", "ab"]) == (0.5, 4 / 7)


REPEATED = {
    "en": "Click here to read more. ", "de": "Hier klicken und weiterlesen. ",
    "ko": "여기를 눌러 더 읽어 보세요. ", "zh": "点击这里阅读全文。", "ja": "続きはこちらをクリック。",
    "ar": "اضغط هنا لقراءة المزيد. ", "th": "คลิกที่นี่เพื่ออ่านเพิ่มเติม ",
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_gopher_drops_text_that_repeats_itself(name):
    assert "-gram" in reason_of(QualityRules(GOPHER).check, LANGUAGES[name] + REPEATED[name] * 30)
    lines = LANGUAGES[name] + ("\n" + REPEATED[name] + "x") * 5 + "\n"
    assert reason_of(QualityRules(GOPHER).check, lines) == "repeated lines"


LONG = LANGUAGES["en"]


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"min_words": 50}, "Too short.", "too few words"),
        ({"min_words": 50}, "很短的一句话。" * 8, "too few words"),
        ({"max_words": 50}, LONG, "too many words"),
        ({"min_characters": 5}, "hi", "too few characters"),
        ({"max_characters": 5}, "안녕하세요 여러분", "too many characters"),
        ({"min_mean_word_length": 3}, "a b c d e", "words too short"),
        ({"max_mean_word_length": 10}, "AAAAAAAAAAAAAAAAAAAAAAAA BBBBBBBBBBBB", "words too long"),
        ({"max_symbols_per_word": 0.1}, "#a #b #c d e …", "too many symbols"),
        ({"max_symbol_share": 0.3}, "=== *** ### ok ===", "too many symbols"),
        ({"min_alphabetic_share": 0.8}, "1 2 3 4 five", "words without letters"),
        ({"min_alphabetic_share": 0.8}, "1 2 3 4 5 6 7 8 一 二", "words without letters"),
        ({"min_stop_words": 2}, "Guten Tag, schöne Welt", "too few stop words"),
        ({"max_bullet_share": 0.9}, "- a\n* b\n• c", "bullet lines"),
        ({"max_ellipsis_share": 0.3}, "続く…\nmore...\nend.", "lines that end with an ellipsis"),
        ({"max_unended_share": 0.5}, "Home\nAbout\n메뉴\nEnd.", "lines that end without punctuation"),
        ({"min_sentences": 3}, "Eins. Zwei", "too few sentences"),
        ({"forbidden": ("lorem ipsum",)}, "Lorem Ipsum dolor", "forbidden text"),
        ({"max_duplicate_paragraph_share": 0.3}, "a b\n\na b\n\nc", "repeated paragraphs"),
    ],
)
def test_each_rule_drops_what_it_is_for(options, text, reason):
    rules = QualityRules(QualityOptions(**options))
    assert reason_of(rules.check, text) == reason
    assert options.get("max_words") or reason_of(QualityRules(QualityOptions()).check, text) == ""


def test_c4_removes_lines_without_an_end_and_short_ones():
    rules = QualityRules(C4)
    text = "Home\nThe wind has turned since this morning.\nSo what?\n今天我们不出海了，风向变了。\n菜单"
    kept = "The wind has turned since this morning.\n今天我们不出海了，风向变了。"
    assert rules.clean(text) == (kept, 3)
    assert reason_of(rules.check, "function() { return 1; }") == "too few sentences"


def test_languages():
    known = Languages()
    assert sorted(known.known()) == sorted(CODES)
    chain = FilterChain(FilterOptions(languages=("en", "ko")))
    for name, text in LANGUAGES.items():
        assert known.identify(text)[0] == name
        assert reason_of(chain.text, text) == ("" if name in ("en", "ko") else "another language")
    for text in ("Ok.", "1 2 3 4 5 6", "Paris?", "서울", "https://example.org/eine/lange/adresse"):
        assert reason_of(chain.text, text) == ""  # Too little to be sure of.
    english = FilterChain(FilterOptions(languages=("en",)))
    assert reason_of(english.text, "서울입니다.") == "" != reason_of(english.text, LANGUAGES["ko"])
    many = FilterChain(FilterOptions(languages=("zh",)))
    assert reason_of(many.text, "我哋今日唔出海，風向變咗，你哋聽日先嚟啦。") == ""  # Cantonese


TOKEN = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/abc=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jo.doe+x@mail.uni-bonn.de.", "Write to [EMAIL]."),
        ("문의: kim@회사.co.kr 으로", "문의: [EMAIL] 으로"),
        ("连接 git@github.com:a/b.git 和 me@example.com", None),
        ("@user a@b x@1.2 @decorator(x) foo@bar", None),
        ("Ruf an: +49 30 901820 oder 030/9018-2000", "Ruf an: [PHONE] oder [PHONE]"),
        ("전화 010-1234-5678, 02-312-4567", "전화 [PHONE], [PHONE]"),
        ("電話は03-1234-5678です", "電話は[PHONE]です"),
        ("手机：13912345678。", "手机：[PHONE]。"),
        ("Звоните: +7 (495) 123-45-67", "Звоните: [PHONE]"),
        ("call (212) 555-0187 or 212-555-0187", "call [PHONE] or [PHONE]"),
        ("2024-01-31, 1990-2000, ISBN 978-3-16-148410-0, 3.14159265, MA 02110-1301 USA", None),
        ("from -33554432 to +33554432, 12345678901234567890, 10 000 000 000", None),
        ("card 4111 1111 1111 1111 and 378282246310005", "card [CARD] and [CARD]"),
        ("no card 4111 1111 1111 1112, id 2945706000021192704", None),
        ("IBAN DE89 3704 0044 0532 0130 00, GB82WEST12345698765432", "IBAN [IBAN], [IBAN]"),
        ("no IBAN DE89 3704 0044 0532 0130 01, DE863704004405320130, RFC1234 5678", None),
        ("from 91.198.174.192 and 2a00:1450:4001:81b::200e.", "from [IP] and [IP]."),
        ("127.0.0.1 v2.14.30.1 version 12.15.7.2 1.2.3.4.5 std::abs::x 12:30:45", None),
        ("key AKIAQ3EXAMPLEQ3ABCDE, " + TOKEN, "key [CREDENTIAL], [CREDENTIAL]"),
        ("Bearer " + JWT, "Bearer [CREDENTIAL]"),
        ("mine is sk-abcDEFghiJKLmnoPQRst", "mine is [CREDENTIAL]"),  # without any digit
        ("use ask-abcDEFghiJKLmnoPQRst, sk-learn and cafe::beef::face", None),
        ("x\n" + PEM + "\ny", "x\n[PRIVATE_KEY]\ny"),
        ('password = "hunter2Xyz"', 'password = "[PASSWORD]"'),
        ("API_KEY: 9f8a7b6c5d4e", "API_KEY: [PASSWORD]"),
        ("password = getpass(prompt1)\ntoken: <your-token-1>\npwd=$HOME1234", None),
        ("비밀번호(password)는 8자 이상이어야 합니다. password: required", None),
    ],
)
def test_personal_data_is_masked_and_nothing_else(text, masked):
    found, counts = mask_personal_data(text, tuple(KINDS))
    assert found == (text if masked is None else masked)
    assert bool(counts) == (masked is not None)


@pytest.mark.parametrize("name", GOOD)
def test_good_text_holds_no_personal_data(name):
    assert not mask_personal_data(GOOD[name], tuple(KINDS))[1]


def test_check_digits():
    assert luhn("79927398713") and not luhn("79927398710")  # The patent's own example.


SEEDS = ("a", "a.", "1", "1 ", "+1(", "12.", "A1", "a@", "eyJ", ":a", "<", "<p ", "<!--", "&", "{")
SEEDS += ("-----BEGIN PRIVATE KEY-----\n", "password=", "\x1b[", "\u00c3\u00b6", "。", "* ")
SEEDS += ("function(", "...", "\n", "a,")


def test_no_text_takes_more_than_linear_time():
    """Quadratic time would be many minutes, even on a machine that is much faster."""
    started = time.process_time()
    for seed in SEEDS:
        text = seed * (100_000 // len(seed))
        mask_personal_data(text, tuple(KINDS))
        strip_markup(text)
        remove_control(text)
        fix_mojibake(text)
        reason_of(QualityRules(GOPHER).check, text)
    strip_markup("<!--" * 1_000_000)
    assert time.process_time() - started < 60


def test_counts_shares_and_examples_reach_the_report(tmp_path, monkeypatch):
    """And neither they nor the bytes depend on the number of workers."""
    monkeypatch.setattr(records, "BATCH_BYTES", 2000)
    write_model(tmp_path / "model")
    texts = [f"{text} {number}" for number in range(6) for text in GOOD.values()]
    texts[7:7] = ["Schreib an jo@mail.de, gr\u00c3\u00bcn\x00!", "\ufffd" * 9, "Ok. " * 60]
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    keys = {"filters.personal_data": "mask", "filters.quality.max_top_2_gram": 0.5}
    made = []
    for count in (1, 2, 3):
        folder = run_here(tmp_path, RECIPE, workers=count, output=tmp_path / str(count), **keys)
        made.append([(folder / name).read_bytes() for name in ("train.h5", "report.json")])
    assert made[0] == made[1] == made[2]
    report = json.loads(made[0][1])
    assert report["filters"]["examined"] == 69
    fallen = report["filters"]["dropped"]["one 2-gram repeated"]
    assert fallen["documents"] == report["dropped"]["one 2-gram repeated"] == 1
    assert fallen["share"] == pytest.approx(1 / 69, abs=1e-6)
    assert fallen["examples"][0].startswith(f"{tmp_path}/a.jsonl:10: ")
    assert "at most 0.5: Ok. Ok. Ok." in fallen["examples"][0]
    assert report["filters"]["dropped"]["undecodable text"]["documents"] == 1
    found = report["filters"]["found"]
    assert (found["encoding repaired"]["texts"], found["encoding repaired"]["changes"]) == (1, 1)
    assert "grün" in found["encoding repaired"]["examples"][0]
    assert found["personal data: email"] == {"texts": 1, "changes": 1, "examples": []}
    assert "jo@mail.de" not in made[0][1].decode()
    assert "filters: personal data: email: 1 in 1 texts" in report["notes"]
    assert len(Shard(tmp_path / "1" / "train.h5").documents()) == 67


def test_personal_data_may_drop_and_says_no_more_than_its_kind(tmp_path):
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": "jo@mail.de"}, {"text": LONG}])
    report = (run_here(tmp_path, RECIPE, **{"filters.personal_data": "drop"}) / "report.json")
    assert "a.jsonl:1: 1 email" in report.read_text() and "jo@mail" not in report.read_text()


def test_a_filter_that_raises_costs_one_record(tmp_path, monkeypatch):
    def broken(chain, text):
        if "boom" in text:
            raise ZeroDivisionError("of a filter")
        return text

    monkeypatch.setattr(documents.FilterChain, "_repair", broken)
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": t} for t in ("one", "boom", "three")])
    report = json.loads((run_here(tmp_path, RECIPE) / "report.json").read_text())
    assert report["dropped"] == {documents.UNREADABLE: 1}
    assert "a.jsonl:2: ZeroDivisionError: of a filter" in report["examples"]["unreadable record"][0]
    assert report["shards"]["train"]["documents"] == 2


def test_all_problems_of_the_filters_come_at_once(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "kind: pretrain\nmodel: m\noutput: o\nsources: [{path: a}]\nfilters:\n  langages: [en]\n"
        "  languages: [en, english]\n  personal_data: hide\n  repair: {encoding: true}\n"
        "  quality: {preset: gophr, max_bullet_share: 2, max_mean_word_length: -1}\n"
        "  conversation: {echo: true}\n  personal_kinds: email\n"
    )
    with pytest.raises(DataError) as caught:
        load_recipe(path, [])
    for expected in [
        "9 problems",
        "filters.langages (line 6) is not an option\n  try: did you mean languages?",
        "filters.languages.1 (line 7) is 'english'\n  try: set it to one of: ace, af",
        "filters.personal_data (line 8) is 'hide'\n  try: set it to one of: off, count, mask, drop",
        "filters.repair.encoding (line 9) is 'true'\n  try: set it to one of: auto, always, never",
        "filters.quality.preset (line 10) is 'gophr'\n  try: set it to one of: none, gopher, c4",
        "filters.quality.max_bullet_share (line 10) is '2'\n  try: set it to a number from 0 to 1",
        "filters.quality.max_mean_word_length (line 10) is '-1'",
        "filters.conversation (line 11) is for kind sft",
        "filters.personal_kinds (line 12) is 'email'\n  try: set it to a list, such as [a, b]",
    ]:
        assert expected in str(caught.value)


def test_presets_are_starting_points(tmp_path):
    path = tmp_path / "recipe.yaml"
    quality = "filters: {languages: [en], quality: {preset: gopher, min_words: 9}}\n"
    path.write_text(RECIPE.format(tmp=tmp_path) + quality)
    options = load_recipe(path, []).filters
    assert options.quality.min_words == 9 and options.quality.max_top_2_gram == 0.2
    assert options.quality.min_stop_words == 2
    digest = hashlib.sha256(json.dumps(load_recipe(path, []).identity()).encode()).digest()
    other = load_recipe(path, ["filters.quality.min_words=8"]).identity()
    assert hashlib.sha256(json.dumps(other).encode()).digest() != digest
    sft = RECIPE.format(tmp=tmp_path).replace("pretrain", "sft")
    path.write_text(sft + "filters: {quality: {preset: c4}}\n")
    with pytest.raises(DataError, match="removes lines, which would break answers"):
        load_recipe(path, [])


@pytest.mark.parametrize(
    "secret",
    [
        "93.184.216.34", "2001:4860:4860::8888", *(f"gh{kind}_" + "a1" * 20 for kind in "pousr"),
        "github_pat_" + "a1" * 12, "hf_" + "aB" * 17, "glpat-" + "aB" * 12, "sk-" + "aB" * 12,
        *(f"xox{kind}-" + "aB" * 12 for kind in "abprs"), "AKIA" + "QX" * 8, "ASIA" + "QX" * 8,
        "AIza" + "aB" * 17 + "c", JWT, "a@b.de", "GB82 WEST 1234 5698 7654 32", "010-1234-5678",
        "4111111111111111", "password=hunter2Xyz", PEM,
    ],
)  # fmt: skip
def test_quick_looks_miss_nothing_that_stands_alone(secret):
    masked, found = mask_personal_data(f"see {secret}", tuple(KINDS))
    assert found.total() == 1 and secret not in masked

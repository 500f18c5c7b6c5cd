# SPDX-License-Identifier: Apache-2.0
"""The recipe's `filters:`: which filters run, and with which thresholds.

A field's name is its key. The defaults drop no good text of any language: whatever drops is off,
except for texts that are empty or mostly undecodable.
"""

from dataclasses import dataclass, field, fields, replace

from ..section import Section
from .language import CODES
from .personal_data import KINDS

LARGEST = 1 << 40  # of thresholds that are numbers; arbitrary


@dataclass(frozen=True)
class RepairOptions:
    encoding: str = "auto"  # mojibake: "auto" leaves texts that look like code alone
    control_characters: bool = True
    markup: str = "never"
    max_replacement_share: float = 0.1  # of characters that are U+FFFD; 1: any


@dataclass(frozen=True)
class QualityOptions:
    """Limits of texts. 0 of a count, 0 of a least share and 1 of a largest share are no limit."""

    min_words: int = 0
    max_words: int = 0
    min_characters: int = 0
    max_characters: int = 0
    min_mean_word_length: float = 0.0
    max_mean_word_length: float = 0.0
    max_symbols_per_word: float = 0.0  # "#" and ellipses
    max_symbol_share: float = 1.0  # characters that are no letter, digit, mark or white space
    min_alphabetic_share: float = 0.0  # of words with a letter
    min_stop_words: int = 0  # English ones
    max_bullet_share: float = 1.0  # lines that begin with a bullet
    max_ellipsis_share: float = 1.0  # lines that end with an ellipsis
    max_unended_share: float = 1.0  # lines that end without punctuation
    max_duplicate_line_share: float = 1.0
    max_duplicate_line_characters: float = 1.0
    max_duplicate_paragraph_share: float = 1.0
    max_duplicate_paragraph_characters: float = 1.0
    max_top_2_gram: float = 1.0  # share of the characters
    max_top_3_gram: float = 1.0
    max_top_4_gram: float = 1.0
    max_duplicate_5_grams: float = 1.0
    max_duplicate_6_grams: float = 1.0
    max_duplicate_7_grams: float = 1.0
    max_duplicate_8_grams: float = 1.0
    max_duplicate_9_grams: float = 1.0
    max_duplicate_10_grams: float = 1.0
    min_sentences: int = 0
    min_words_per_line: int = 0  # shorter lines are removed
    remove_unended_lines: bool = False
    forbidden: tuple[str, ...] = ()  # texts that hold one of these, in any case, are dropped

    def removes_lines(self) -> bool:
        return self.remove_unended_lines or self.min_words_per_line > 0


# Rae et al. 2021 (Gopher), appendix A.1.1, tables A1 and A2. Its English stop words are required
# only where `languages` is [en].
GOPHER = QualityOptions(
    min_words=50,
    max_words=100_000,
    min_mean_word_length=3.0,
    max_mean_word_length=10.0,
    max_symbols_per_word=0.1,
    min_alphabetic_share=0.8,
    max_bullet_share=0.9,
    max_ellipsis_share=0.3,
    max_duplicate_line_share=0.3,
    max_duplicate_line_characters=0.2,
    max_duplicate_paragraph_share=0.3,
    max_duplicate_paragraph_characters=0.2,
    max_top_2_gram=0.2,
    max_top_3_gram=0.18,
    max_top_4_gram=0.16,
    max_duplicate_5_grams=0.15,
    max_duplicate_6_grams=0.14,
    max_duplicate_7_grams=0.13,
    max_duplicate_8_grams=0.12,
    max_duplicate_9_grams=0.11,
    max_duplicate_10_grams=0.1,
)
# Raffel et al. 2020 (T5), section 2.2, without its list of English bad words.
C4 = QualityOptions(
    min_sentences=3,
    min_words_per_line=5,
    remove_unended_lines=True,
    forbidden=("lorem ipsum", "{"),
)
PRESETS = {"none": QualityOptions(), "gopher": GOPHER, "c4": C4}
GOPHER_STOP_WORDS = 2


@dataclass(frozen=True)
class RepeatedLineOptions:
    """Lines that many documents of a source have are removed. See repeated_lines.py."""

    min_documents: int = 0  # that have the line, exact copies apart; 0: no line is removed
    min_share: float = 0.0  # of the source's documents, which it must have too
    min_letters: int = 20  # shorter lines stay: headings, braces; see answers.weight
    max_removed_share: float = 0.8  # of a text's characters; a text with more keeps all


@dataclass(frozen=True)
class ConversationOptions:
    """What is asked of each answer that is trained, and of the question before it."""

    empty: bool = True
    echo: bool = False  # the answer is the question
    repeats_question: bool = False  # the answer begins with the whole question
    refusal: bool = False
    truncated: bool = False
    other_language: bool = False
    min_answer_letters: int = 0  # see answers.weight: a Chinese character counts as three
    min_open_answer_letters: int = 0  # of answers to questions that ask for an explanation
    max_answer_characters: int = 0
    contradictions: bool = False  # equal questions with other answers are reported
    max_questions: int = 1 << 18  # that are remembered for it


@dataclass(frozen=True)
class FilterOptions:
    repair: RepairOptions = RepairOptions()
    quality: QualityOptions = QualityOptions()
    conversation: ConversationOptions = ConversationOptions()
    repeated_lines: RepeatedLineOptions = RepeatedLineOptions()
    languages: tuple[str, ...] = ()  # ISO 639-1 codes; none: any
    min_language_probability: float = 0.5
    personal_data: str = "count"
    personal_kinds: tuple[str, ...] = field(default=tuple(KINDS))


def parse_filters(section: Section, kind: str) -> FilterOptions:
    """The options under `filters:`; reports all problems to the section."""
    languages = section.texts("languages", (), CODES)
    options = FilterOptions(
        repair=parse_repair(section.section("repair")),
        quality=parse_quality(section.section("quality"), languages),
        conversation=parse_fields(section.section("conversation"), ConversationOptions()),
        repeated_lines=parse_repeated_lines(section.section("repeated_lines")),
        languages=languages,
        min_language_probability=section.fraction("min_language_probability", 0.5),
        personal_data=section.text("personal_data", "count", ("off", "count", "mask", "drop")),
        personal_kinds=section.texts("personal_kinds", tuple(KINDS), tuple(KINDS)),
    )
    if kind == "pretrain" and section.has("conversation"):
        section.reject("conversation", "is for kind sft", "remove it")
    if kind == "sft" and options.repeated_lines.min_documents:
        section.reject(
            "repeated_lines",
            "is for kind pretrain: an answer without its heading or closing line would be one that "
            "nobody wrote",
            "remove it; near_duplicates and filters.conversation drop a conversation whole",
        )
    if kind == "sft" and options.quality.removes_lines():
        section.reject(
            "quality",
            "removes lines, which would break answers",
            "set remove_unended_lines: false and min_words_per_line: 0",
        )
    section.finish()
    return options


def parse_repair(section: Section) -> RepairOptions:
    modes = ("auto", "always", "never")
    options = RepairOptions(
        encoding=section.text("encoding", "auto", modes),
        control_characters=section.boolean("control_characters", True),
        markup=section.text("markup", "never", modes),
        max_replacement_share=section.fraction("max_replacement_share", 0.1),
    )
    section.finish()
    return options


def parse_repeated_lines(section: Section) -> RepeatedLineOptions:
    options = parse_fields(section, RepeatedLineOptions())
    if options.min_documents == 1:
        section.reject("min_documents", "is 1, so that every line would go", "set 10 or more")
    return options


def parse_quality(section: Section, languages: tuple[str, ...]) -> QualityOptions:
    preset = section.text("preset", "none", tuple(PRESETS))
    defaults = PRESETS.get(preset, QualityOptions())
    if preset == "gopher" and languages == ("en",):
        defaults = replace(defaults, min_stop_words=GOPHER_STOP_WORDS)
    return parse_fields(section, defaults)


def parse_fields(section: Section, defaults):
    """Options of the type of `defaults`, each field read by its type under its name."""
    values = {}
    for item in fields(defaults):
        default = getattr(defaults, item.name)
        if isinstance(default, bool):
            values[item.name] = section.boolean(item.name, default)
        elif isinstance(default, int):
            values[item.name] = section.integer(item.name, default, 0, LARGEST)
        elif isinstance(default, tuple):
            values[item.name] = section.texts(item.name, default)
        elif item.name in UNBOUNDED:
            values[item.name] = section.number(item.name, default, 0, LARGEST)
        else:
            values[item.name] = section.fraction(item.name, default)
    section.finish()
    return type(defaults)(**values)


# Thresholds that are no shares.
UNBOUNDED = ("min_mean_word_length", "max_mean_word_length", "max_symbols_per_word")

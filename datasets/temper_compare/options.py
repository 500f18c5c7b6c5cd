# SPDX-License-Identifier: Apache-2.0
"""The configuration of a comparison. configs/compare/manual.yaml is a commented example."""

from dataclasses import dataclass
from pathlib import Path

from temper_data.section import Section, read_sections

INSTRUCTION = (
    "Answer the question in the words of the manual. "
    "If the manual does not say it, answer: I do not know."
)
UNTRAINED = ("zero-shot", "few-shot random", "few-shot nearest", "retrieval", "dense retrieval")
WITH_RETRIEVAL = " + retrieval"  # ends the name of a trained arm that also gets passages


@dataclass(frozen=True)
class QuestionOptions:
    """Which conversations are asked."""

    recipe: str  # an sft recipe whose shards exist: its hold-out is asked, the rest are examples
    count: int
    unanswerable: int  # questions about names that the manual does not know
    edited: int  # trained conversations whose answers are exchanged in pairs
    names: str  # field of a record with the texts that name what is asked; "": there is none
    answer_tokens: int  # longest right answer that is asked for, and longest answer that is given


@dataclass(frozen=True)
class ManualOptions:
    """The text that answers are looked up in."""

    path: str  # JSON lines
    field: str  # with the text
    title: str  # field with what each passage begins with; "": nothing
    words: int  # of a passage, unless one paragraph is longer


@dataclass(frozen=True)
class PromptOptions:
    """What the model is shown beside the question."""

    instruction: str
    shots: int
    shot_words: int  # longest answer of an example
    passages: int
    dense: str  # folder whose token embeddings find passages; "": no dense retrieval


@dataclass(frozen=True)
class Training:
    """A trained arm."""

    name: str
    config: str
    after: str  # configuration of a continual pretraining before it; "": none
    existing: bool  # whether the configurations' own finished runs are taken
    retrieval: bool  # whether there is a second arm that also gets passages


@dataclass(frozen=True)
class BlindOptions:
    """The page on which people choose between answers."""

    arms: tuple[str, ...]  # (): no page
    questions: int


@dataclass(frozen=True)
class Options:
    folder: Path  # of all results; arms that are finished are not done again
    model: str
    dtype: str  # of asking: "auto", "float32" or "bfloat16"
    ranks: int
    seeds: int  # so many trainings of each kind, and choices of random examples
    arms: tuple[str, ...]  # of UNTRAINED
    questions: QuestionOptions
    manual: ManualOptions
    prompts: PromptOptions
    trainings: tuple[Training, ...]
    steps: int  # of each fine-tuning; 0: those of its configuration
    pretraining_steps: int
    update_steps: int  # of the run that teaches a trained arm the edited answers
    blind: BlindOptions

    def arm_names(self) -> list[str]:
        """In the order of the table."""
        names = list(self.arms)
        for training in self.trainings:
            names.append(training.name)
            names += [training.name + WITH_RETRIEVAL] * training.retrieval
        return names


def load_options(path: Path, assignments: list[str]) -> Options:
    """Reads a configuration and applies `key=value`. Raises DataError with every problem."""
    return read_sections(path, assignments, parse, "correct the configuration")


def parse(section: Section) -> Options:
    prompts = parse_prompts(section.section("prompts"))
    usual = tuple(arm for arm in UNTRAINED if prompts.dense or arm != "dense retrieval")
    trainings = section.sections("training") if section.has("training") else []
    section.known.append("training")
    options = Options(
        folder=Path(section.path("folder")),
        model=section.path("model"),
        dtype=section.text("dtype", "auto", ("auto", "float32", "bfloat16")),
        ranks=section.integer("ranks", 1, 1, 1024),
        seeds=section.integer("seeds", 1, 1, 100),
        arms=section.texts("arms", usual, UNTRAINED),
        questions=parse_questions(section.section("questions")),
        manual=parse_manual(section.section("manual")),
        prompts=prompts,
        trainings=tuple(parse_training(part) for part in trainings),
        steps=section.integer("steps", 0, 0),
        pretraining_steps=section.integer("pretraining_steps", 0, 0),
        update_steps=section.integer("update_steps", 4, 1),
        blind=parse_blind(section.section("blind")),
    )
    check_across(section, options)
    section.finish()
    return options


def parse_questions(section: Section) -> QuestionOptions:
    options = QuestionOptions(
        recipe=section.path("recipe"),
        count=section.integer("count", 40, 2, 100_000),
        unanswerable=section.integer("unanswerable", 0, 0, 100_000),
        edited=section.integer("edited", 0, 0, 100_000),
        names=section.text("names", ""),
        answer_tokens=section.integer("answer_tokens", 64, 1, 4096),
    )
    if options.edited % 2:
        section.reject("edited", "is odd, but answers are exchanged in pairs", "make it even")
    if options.unanswerable and not options.names:
        section.reject("unanswerable", "needs names to exchange for ones that do not exist",
                       "set names to the records' field that lists them, or this to 0")  # fmt: skip
    section.finish()
    return options


def parse_manual(section: Section) -> ManualOptions:
    options = ManualOptions(
        path=section.path("path"),
        field=section.text("field", "text"),
        title=section.text("title", ""),
        words=section.integer("words", 120, 10, 10_000),
    )
    section.finish()
    return options


def parse_prompts(section: Section) -> PromptOptions:
    options = PromptOptions(
        instruction=section.text("instruction", INSTRUCTION),
        shots=section.integer("shots", 3, 1, 64),
        shot_words=section.integer("shot_words", 40, 1, 10_000),
        passages=section.integer("passages", 2, 1, 64),
        dense=section.text("dense", ""),
    )
    section.finish()
    return options


def parse_training(section: Section) -> Training:
    training = Training(
        name=section.text("name"),
        config=section.path("config"),
        after=section.text("after", ""),
        existing=section.boolean("existing", False),
        retrieval=section.boolean("retrieval", False),
    )
    if "/" in training.name or training.name.startswith("."):
        section.reject("name", f"is '{training.name}', which is no name of a folder", "change it")
    section.finish()
    return training


def parse_blind(section: Section) -> BlindOptions:
    options = BlindOptions(section.texts("arms"), section.integer("questions", 20, 1, 100_000))
    if len(options.arms) == 1:
        section.reject("arms", "names one arm: nothing to choose from", "name two or more")
    section.finish()
    return options


def check_across(section: Section, options: Options) -> None:
    """Rules that concern more than one key."""
    names = options.arm_names()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        section.reject("training", f"and arms name '{twice[0]}' twice", "give each its own name")
    if not names:
        section.reject("arms", "and training name nothing to compare", "name two arms or more")
    for name in options.blind.arms:
        if name not in names:
            section.reject("blind", f"names the arm '{name}', which there is not",
                           f"choose of: {', '.join(names)}")  # fmt: skip
    if "dense retrieval" in options.arms and not options.prompts.dense:
        section.reject("arms", "has dense retrieval, but prompts.dense names no folder", "set it")
    if options.seeds > 1 and any(training.existing for training in options.trainings):
        section.reject("seeds", "is above 1, but an existing run has one seed", "set seeds to 1")

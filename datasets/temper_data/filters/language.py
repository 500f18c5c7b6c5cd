# SPDX-License-Identifier: Apache-2.0
"""Which language a text is in, by py3langid's model, which its package carries."""

import re

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# The labels of py3langid 0.4; "zxx" is text in no language.
CODES = tuple(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu"
    " ext fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is"
    " it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne"
    " nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta"
    " te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx".split()
)
SAMPLE = 2000  # characters that are looked at; more change no answer
FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
NO_PROSE = re.compile(r"`[^`\n]{1,200}`|https?://\S{1,500}|[\w.+-]{1,64}@[\w.-]{1,200}")
LETTERS = re.compile(r"[^\W\d_]")
MIN_LETTERS = 20  # Fewer tell no language; an ideograph counts as two.
# Codes of one written language.
DIALECTS = ({"no", "nn"}, {"zh", "yue", "wuu"}, {"ar", "ary", "arz"}, {"uz", "uzs"}, {"ku", "sdh"})
# Languages that the model may confuse in a short text.
NEAR = ({"no", "nn", "da", "sv"}, {"hr", "bs", "sr", "sl"}, {"id", "ms"}, {"cs", "sk"})
NEAR += ({"es", "gl", "pt", "an", "ca", "ext"}, {"bg", "mk"}, {"ru", "uk", "be"}, {"nl", "af"})
NEAR += ({"hi", "mr", "ne", "sa"}, {"it", "vec", "lij"}, {"fa", "ps", "ur"}, {"tr", "az", "tk"})


class Languages:
    """Names the language of texts. Made before processes fork, so that they share the model."""

    def __init__(self) -> None:
        self._model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def identify(self, text: str) -> tuple[str, float]:
        """Code and probability, from 0 to 1; ("", 0.0) if there is too little to tell.

        The probability is rounded, so that the last bits of another machine do not decide.
        """
        sample = prose_of(text)
        letters = len(LETTERS.findall(sample))
        wide = sum(1 for character in sample[: 2 * MIN_LETTERS] if character > "\u2e80")
        if letters + wide < MIN_LETTERS:
            return "", 0.0
        code, probability = self._model.classify(sample)
        return code, round(probability, 4)

    def known(self) -> list[str]:
        """All codes that `identify` may give."""
        return self._model.labels


def prose_of(text: str) -> str:
    """The beginning of what is no code, link or address."""
    text = text[: 4 * SAMPLE]
    if "```" in text:
        text = FENCED.sub(" ", text)
    return NO_PROSE.sub(" ", text)[:SAMPLE]


def is_among(code: str, allowed: tuple[str, ...]) -> bool:
    """Whether `code` is one of the languages, or a dialect of one."""
    return any(code == one or any({code, one} <= group for group in DIALECTS) for one in allowed)


def are_near(one: str, other: str) -> bool:
    """Whether both may be told for one text."""
    return is_among(one, (other,)) or any({one, other} <= group for group in NEAR)

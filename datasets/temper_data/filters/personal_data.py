# SPDX-License-Identifier: Apache-2.0
"""Finds personal data and credentials, by their form and their check digits where they have some.

Every pattern is bounded, and begins where no longer match could, so that no text takes more than
linear time.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Check = Callable[[re.Match], bool]
Look = Callable[[str, bytes], bool]


@dataclass(frozen=True)
class Kind:
    """One kind of personal data. Texts with fewer than `digits` hold none, nor do those of which
    `may_be_in` says so, nor what lies outside of the matches of `runs`; all are found much sooner
    than `pattern`. `may_be_in` looks at a text and its shape."""

    pattern: re.Pattern
    is_real: Check
    may_be_in: Look
    runs: re.Pattern | None = None
    digits: int = 0


# Borders are those of ASCII words, since scripts without spaces write numbers amid letters.
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._+%-])([A-Za-z0-9._+%-]{1,64})@"
    r"((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[A-Za-z]{2,24})(?![A-Za-z0-9_-])"
)
# Names that are reserved for examples, and the user of every repository.
EXAMPLE_HOST = re.compile(r"(?:^|\.)example\.(?:com|net|org)$|\.(?:example|invalid|test|local)$")

PHONE = re.compile(
    r"(?<![0-9A-Za-z_.,+/-])(?<!\d )(?:"
    r"\+[1-9]\d{0,2}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,5}"  # international
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4}"  # North America
    r"|01[016789][ -]?\d{3,4}[ -]?\d{4}|0\d{1,2}-\d{3,4}-\d{4}"  # Korea
    r"|0\d{1,4}-\d{1,4}-\d{4}"  # Japan
    r"|1[3-9]\d{9}|1[3-9]\d-\d{4}-\d{4}"  # China
    r"|0\d{2,4}[ /-]{1,3}(?:\d{5,8}|\d{2,4}(?:[ -]\d{2,4}){1,3})"  # Germany and others
    r"|(?:8|\+7) ?\(\d{3}\) ?\d{3}-\d{2}-\d{2}"  # Russia
    r")(?![0-9A-Za-z_/-]|[.,]\d)"
)
CARD = re.compile(
    r"(?<![0-9A-Za-z_.,+-])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}"
    r"|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})"
    r"(?![0-9A-Za-z_-]|[.,]\d)"
)
# Numbers as Visa, Mastercard, American Express, Diners, Discover and UnionPay give them out. Of
# other numbers one in ten has the right last digit.
ISSUER = re.compile(
    r"4\d{12}(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"
)
IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
IPV4 = r"(?<![0-9A-Za-z_.-])(?:\d{1,3}\.){3}\d{1,3}(?![0-9A-Za-z_-]|\.\d)"
IPV6 = r"(?<![0-9A-Za-z_:.])(?:[0-9A-Fa-f]{1,4}:{1,2}){2,7}[0-9A-Fa-f]{1,4}(?![0-9A-Za-z_:])"
IP = re.compile(f"{IPV4}|{IPV6}")
VERSION = re.compile(r"(?:version|ver|v|release|build|section|§)[.: ]{0,2}$", re.IGNORECASE)

# Each begins with one class of ASCII characters, for which re looks quickly. A run holds a whole
# number, and a text that lacks one of the gates has none of that kind.
DIGIT_RUN = re.compile(r"[+(0-9][(0-9][0-9 ().\-/]{5,}")
IBAN_RUN = re.compile(r"[A-Z][A-Z][0-9]{2} ?[A-Z0-9]{4}[A-Z0-9 ]*")
IP_RUN = re.compile(
    r"[0-9A-Fa-f]{1,4}(?:\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:.]*"
)
IP_GATES = (re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]"), re.compile(r":[0-9A-Fa-f]{0,4}:"))
PASSWORD_GATE = re.compile(r"[=:][ \t]{0,4}[\"']?[^\s\"'<>{}()\[\],;/]")

CREDENTIAL = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[A-Za-z0-9_-]{20,64}|hf_[A-Za-z0-9]{30,64}|xox[abprs]-[A-Za-z0-9-]{10,250}"
    r"|AIza[0-9A-Za-z_-]{35}|sk-[A-Za-z0-9_-]{20,200}"
    r"|eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,2000}"
    r")(?![A-Za-z0-9_])"
)
# What each of them begins with, sought by its rarest character.
CREDENTIAL_GATES = (
    ("_", re.compile("_(?:(?<=gh[pousr]_)|(?<=github_pat_)|(?<=hf_))")),
    ("-", re.compile("-(?:(?<=sk-)|(?<=glpat-)|(?<=xox[abprs]-))")),
    ("A", re.compile("A(?:KIA|SIA|Iza)")),
    ("J", re.compile("J(?<=eyJ)")),
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[A-Za-z0-9+/=\s\\:,.()]|-(?!-)){0,20000}"
    r"-----END (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
)
PASSWORD = re.compile(
    r"(?i:password|passwd|pwd|secret(?:_?key)?|api_?key|access_?token|auth_?token|client_secret)"
    r"""["']?[ \t]{0,4}(?:=|:)[ \t]{0,4}(["']?)([^\s"'<>{}()\[\],;]{8,200})(?![\w(\[])"""
)
PASSWORD_HINTS = tuple("assw ASSW pwd Pwd PWD ecret ECRET s_tok sTok S_TOK".split())
PASSWORD_HINTS += tuple("h_tok hTok H_TOK pi_key piKey pikey API_KEY APIKEY".split())
PLACEHOLDER = re.compile(r"(?i)x{4}|\*{3}|\.{3}|^your|example|changeme|placeholder|^[$%]|dummy")

# Lengths of an IBAN by country, of those countries that many texts name.
IBAN_LENGTHS = dict(
    AD=24, AE=23, AT=20, BE=16, BG=22, BR=29, CH=21, CY=28, CZ=24, DE=22, DK=18, EE=20, ES=24,
    FI=18, FR=27, GB=22, GR=27, HR=21, HU=28, IE=22, IL=23, IS=26, IT=27, LI=21, LT=20, LU=20,
    LV=21, MC=27, MT=31, NL=18, NO=15, PL=28, PT=25, QA=29, RO=24, RS=22, SA=24, SE=24, SI=19,
    SK=24, TR=26, UA=29,
)  # fmt: skip


def is_address(found: re.Match) -> bool:
    user, host = found[1], found[2].lower()
    return user != "git" and not EXAMPLE_HOST.search(host) and not user.startswith(".")


def is_phone(found: re.Match) -> bool:
    """Whether it has as many digits as numbers have, and is no other number with a sign."""
    text = found.group()
    digits = [character for character in text if character.isdigit()]
    least = 10 if len(digits) == len(text) - 1 and text[0] == "+" else 8
    return least <= len(digits) <= 15 and len(set(digits)) > 2


def is_card(found: re.Match) -> bool:
    digits = re.sub(r"\D", "", found.group())
    return ISSUER.fullmatch(digits) is not None and len(set(digits)) > 1 and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others. Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_iban(found: re.Match) -> bool:
    """Whether length and check digits are right. Source: ISO 13616-1."""
    text = found.group().replace(" ", "")
    if len(text) != IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def is_public_ip(found: re.Match) -> bool:
    """Whether it is an address that somebody may have, and no version of a program."""
    try:
        address = ipaddress.ip_address(found.group())
    except ValueError:
        return False
    before = found.string[max(0, found.start() - 12) : found.start()]
    if address.version == 4 and all(part < 10 for part in address.packed):
        return False
    return address.is_global and not VERSION.search(before)


def is_secret(found: re.Match) -> bool:
    """Whether a value looks chosen at random, and is no name of something or its placeholder."""
    value = found[2]
    mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return bool(mixed) and len(set(value)) > 5 and not PLACEHOLDER.search(value)


def always(_: re.Match) -> bool:
    return True


# A text's shape: its capitals as A, its digits as 0, other bytes of UTF-8 as they are.
CAPITALS, DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
SHAPE = bytes.maketrans(CAPITALS + DIGITS, b"A" * len(CAPITALS) + b"0" * len(DIGITS))


def shape_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").translate(SHAPE)


def may_hold_private_key(text: str, _: bytes) -> bool:
    return "PRIVATE KEY" in text


def may_hold_credential(text: str, _: bytes) -> bool:
    for sign, gate in CREDENTIAL_GATES:
        if sign in text and gate.search(text):
            return True
    return False


def may_hold_password(text: str, _: bytes) -> bool:
    if not PASSWORD_GATE.search(text):
        return False
    return any(map(text.__contains__, PASSWORD_HINTS))


def may_hold_email(text: str, _: bytes) -> bool:
    return "@" in text


def may_hold_iban(text: str, shape: bytes) -> bool:
    return b"AA00" in shape and IBAN_RUN.search(text) is not None


def may_hold_number(text: str, _: bytes) -> bool:
    return DIGIT_RUN.search(text) is not None


def may_hold_ip(text: str, shape: bytes) -> bool:
    dotted, colons = IP_GATES
    if b".0" in shape and shape.count(b".") >= 3 and dotted.search(text):
        return True
    return shape.count(b":") >= 2 and colons.search(text) is not None


# In this order, since a later pattern may match within what an earlier one finds.
KINDS = {
    "private_key": Kind(PRIVATE_KEY, always, may_hold_private_key),
    "credential": Kind(CREDENTIAL, always, may_hold_credential),
    "password": Kind(PASSWORD, is_secret, may_hold_password, digits=1),
    "email": Kind(EMAIL, is_address, may_hold_email),
    "iban": Kind(IBAN, is_iban, may_hold_iban, IBAN_RUN, digits=2),
    "card": Kind(CARD, is_card, may_hold_number, DIGIT_RUN, digits=13),
    "phone": Kind(PHONE, is_phone, may_hold_number, DIGIT_RUN, digits=8),
    "ip": Kind(IP, is_public_ip, may_hold_ip, IP_RUN, digits=1),
}
DIGIT = re.compile(r"\d")
AFTER = 2  # characters behind a run that the end of a pattern may look at
NOTHING: Counter = Counter()  # that was found, of most texts; nobody writes into it


def mask_personal_data(text: str, kinds: tuple[str, ...]) -> tuple[str, Counter]:
    """The text with each find as [KIND], and how many there were of each kind."""
    shape = shape_of(text)
    num_digits = shape.count(b"0") if text.isascii() else len(DIGIT.findall(text))
    found = NOTHING
    for name, kind in KINDS.items():  # What is masked adds nothing that a later kind would find.
        if num_digits >= kind.digits and kind.may_be_in(text, shape) and name in kinds:
            found = found or Counter()
            text = mask_kind(text, name, kind, found)
    return text, found


def mask_kind(text: str, name: str, kind: Kind, found: Counter) -> str:
    parts, begin = [], 0
    for match in matches_of(text, kind):
        if kind.is_real(match):
            found[name] += 1
            hidden = match.start(2) if name == "password" else match.start()
            parts += [text[begin:hidden], f"[{name.upper()}]"]
            begin = match.end()
    return "".join(parts) + text[begin:] if parts else text


def matches_of(text: str, kind: Kind) -> Iterator[re.Match]:
    if kind.runs is None:
        yield from kind.pattern.finditer(text)
        return
    for run in kind.runs.finditer(text):
        yield from kind.pattern.finditer(text, run.start(), run.end() + AFTER)

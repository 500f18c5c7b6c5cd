# SPDX-License-Identifier: Apache-2.0
"""What can become of one key of theirs by itself. What hangs on several is in parts.py."""

from dataclasses import dataclass

from .translation import Translation, to_flag, whole


@dataclass(frozen=True)
class Number:
    """The same number under our name."""

    ours: str

    def apply(self, key: str, made: Translation) -> None:
        made.put(key, self.ours, whole(made.number(key)))


@dataclass(frozen=True)
class Flag:
    ours: str

    def apply(self, key: str, made: Translation) -> None:
        made.put(key, self.ours, made.flag(key))


@dataclass(frozen=True)
class Text:
    ours: str

    def apply(self, key: str, made: Translation) -> None:
        made.put(key, self.ours, str(made.source[key]))


@dataclass(frozen=True)
class Always:
    """What temper does anyway: the value that says so needs no key, and another has none."""

    value: object
    why: str

    def apply(self, key: str, made: Translation) -> None:
        value = made.source[key]
        if isinstance(self.value, bool):
            is_same = str(value).lower() in ("true", "false") and to_flag(key, value) == self.value
        else:
            is_same = value == self.value
        if is_same:
            made.done[key] = "as temper does anyway"
        else:
            made.leave(key, self.why)


@dataclass(frozen=True)
class No:
    """Nothing of ours."""

    why: str

    def apply(self, key: str, made: Translation) -> None:
        made.leave(key, self.why)


class InPart:
    """Read by a function of parts.py, which says itself what became of it."""

    def apply(self, key: str, made: Translation) -> None:
        pass


Rule = Number | Flag | Text | Always | No | InPart
Table = dict[str, Rule]

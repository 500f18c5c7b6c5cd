# SPDX-License-Identifier: Apache-2.0
"""Which columns each layout reads, and the names that a source has for them."""

from .errors import RecordRefusal
from .section import Section

ALWAYS = ("tools", "chat_template_kwargs")  # Read in every layout of conversations.
COLUMNS = {
    "jsonl": ("text",),
    "messages": ("messages", *ALWAYS),
    "sharegpt": ("conversations", "system", *ALWAYS),
    "instruction": ("instruction", "input", "output", "system", "history", *ALWAYS),
    "prompt_completion": ("prompt", "completion", *ALWAYS),
    "question_answer": ("question", "answer", "system", *ALWAYS),
    "preference": ("prompt", "chosen", "rejected", *ALWAYS),
}
OF_AUTO = {
    "pretrain": COLUMNS["jsonl"],
    "sft": tuple(dict.fromkeys(c for layout in list(COLUMNS.values())[1:] for c in layout)),
}


def parse_columns(section: Section, layout: str, kind: str) -> dict[str, str]:
    """The map `columns` of a source: the layout's name of a column to the source's own.

    Complains about names that the layout does not read, and about two ways to name one column.
    """
    columns = section.section("columns")
    if not columns.tree.items or not kind:
        return {}
    known = OF_AUTO[kind] if layout == "auto" else COLUMNS.get(layout, ())
    if not known:
        section.reject("columns", "is for records, and plain text has none", "remove it")
        return {}
    names = {target: columns.path(target) for target in known if columns.has(target)}
    columns.known += [name for name in known if name not in names]
    columns.finish()
    if section.has("field") and {"text", "messages", "conversations"} & names.keys():
        section.reject("field", "names the column that columns names, too", "remove one of them")
    return names


def rename(record: dict, columns: dict[str, str]) -> dict:
    """The record with the layout's names of its columns. Raises RecordRefusal."""
    if not columns:
        return record
    values = {target: look_up(record, name) for target, name in columns.items()}
    kept = {key: value for key, value in record.items() if key not in columns.values()}
    return kept | values


def look_up(record: dict, name: str):
    """The value under `name`: a key, or keys and list positions with dots between them."""
    if name in record:
        return record[name]
    value = record
    for key in name.split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            keys = ", ".join(map(str, record)) or "none"
            raise RecordRefusal("missing column", f"no {name}; the record has {keys}")
    return value

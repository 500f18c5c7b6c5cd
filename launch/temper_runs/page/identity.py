# SPDX-License-Identifier: Apache-2.0
"""The sections on what the runs were: configuration, differences, fingerprints."""

import math

from temper_data.errors import printable
from temper_data.page.markup import (
    Html, Section, facts, foreign, number, percent, section, table, tag,
)  # fmt: skip

from ..metrics import number_of
from ..run_folder import Run
from .scale import short

MAX_VALUE = 200  # characters
ABSENT = "\u2013"


def describe_differences(runs: list[Run]) -> Section | None:
    """Keys that the runs have otherwise, one column for each run."""
    known = [run for run in runs if run.config]
    if len(known) < 2:
        return None
    rows = [
        row_of(key, known) for key in all_keys(known)
        if len({run.config.get(key, ABSENT) for run in known}) > 1
    ]  # fmt: skip
    if not rows:
        lead = "The configurations are the same."
        return section("differences", "Differences", tag("p", lead, class_="lead"))
    heads = ["key", *(run.name for run in known)]
    shown = table("What is not the same", None, heads, rows, "t" * len(heads))
    return section("differences", "Differences", shown)


def all_keys(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.config))


def row_of(key: str, runs: list[Run]) -> list:
    values = [foreign(run.config.get(key, ABSENT) or '""', MAX_VALUE) for run in runs]
    return [tag("code", key, class_="find"), *values]


def describe_configuration(runs: list[Run]) -> Section | None:
    parts = []
    for run in runs:
        if not run.config:
            continue
        lines = [
            tag("div", printable(f"{key}: {value}", 400), class_="find")
            for key, value in run.config.items()
        ]
        shown = tag("pre", lines, tabindex="0")
        parts.append(tag("details", tag("summary", "Show ", foreign(run.name)), shown))
    if not parts:
        return None
    lead = "As the newest checkpoint keeps it, with the defaults of all keys."
    return section("configuration", "Configuration", tag("p", lead, class_="lead"), parts)


def describe_identity(runs: list[Run]) -> Section:
    """By what those who compare know model, data and result."""
    parts = []
    for run in runs:
        decided = run.decided_by()
        pairs = [("folder", foreign(run.folder.resolve()))]
        pairs += [(name, foreign(decided[key])) for key, name in NAMES.items() if key in decided]
        pairs += [(key, foreign(value)) for key, value in decided.items()
                  if key.startswith("data.train[") and key.endswith("]")]  # fmt: skip
        if "trajectory" in run.state:
            pairs.append(("all that decides the result", foreign(run.state["trajectory"])))
        measured = {**run.timing, **run.manifest}
        pairs += [(name, foreign(measured[key])) for key, name in LAUNCH.items() if key in measured]
        parts += [tag("h3", foreign(run.name)), facts(pairs), shards_table(run), mixture_table(run)]
    lead = "SHA-256 of the model's weights and of the shards; equal ones mean equal results."
    return section("identity", "Identity", tag("p", lead, class_="lead"), parts)


NAMES = {"model": "model", "model.dtype": "computed in", "model.device": "device"}
LAUNCH = {"world_size": "ranks", "num_nodes": "nodes", "model_dtype": "saved as"}


def mixture_table(run: Run) -> Html | None:
    """What each source gives to the whole run."""
    uses = run.state.get("mixture")
    rows = []
    for use in uses if isinstance(uses, list) else []:
        if not isinstance(use, dict):
            continue
        share, epochs = number_of(use.get("share")), number_of(use.get("epochs"))
        tokens = use.get("num_tokens")
        rows.append([
            foreign(use.get("path", "")), percent(share) if math.isfinite(share) else ABSENT,
            number(tokens) if isinstance(tokens, int) else ABSENT,
            short(epochs) if math.isfinite(epochs) else ABSENT,
        ])  # fmt: skip
    heads = ["source", "share of the tokens", "tokens", "epochs"]
    return table(f"Mixture of {run.name}", None, heads, rows, "tnnn") if rows else None


def shards_table(run: Run) -> Html | None:
    data = run.manifest.get("data")
    shards = data.get("shards", []) if isinstance(data, dict) else []
    rows = []
    for shard in shards:
        if not isinstance(shard, dict):
            continue
        use = f"hold-out {shard['holdout']}" if "holdout" in shard else "trained on"
        counts = [
            number(shard[key]) if isinstance(shard.get(key), int) else ABSENT
            for key in ("num_documents", "num_tokens", "num_targets")
        ]
        rows.append([foreign(shard.get("path", "")), foreign(use), *counts,
                     tag("code", str(shard.get("fingerprint", ""))[:16])])  # fmt: skip
    heads = ["shard", "use", "documents", "tokens", "targets", "fingerprint begins"]
    return table(f"Data of {run.name}", None, heads, rows, "ttnnnt") if rows else None

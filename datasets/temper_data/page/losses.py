# SPDX-License-Identifier: Apache-2.0
"""The sections on what was left out: reasons, filters, duplicates, evaluation texts."""

from .markup import (
    MAX_ROWS, Html, Section, bar, facts, foreign, number, percent, plural, section, table, tag,
)  # fmt: skip

MAX_EXAMPLES = 10  # of one reason; as many as the report has


def describe_dropped(report: dict, kept: int) -> Section:
    dropped = sorted(report.get("dropped", {}).items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(count for _, count in dropped)
    if not total:
        return section("dropped", "Dropped", tag("p", "Nothing was dropped.", class_="lead"))
    lead = f"{number(total)} of {plural(total + kept, 'record')}."
    examples = report.get("examples", {})
    reasons = []
    for reason, count in dropped[:MAX_ROWS]:
        share = count / (total + kept)
        line = (
            tag("span", foreign(reason), class_="name"), tag("span", number(count)),
            tag("span", percent(share)), bar(share),
        )  # fmt: skip
        reasons.append(expandable(line, examples.get(reason, [])))
    return section("dropped", "Dropped", tag("p", lead, class_="lead"), reasons)


def expandable(line, examples: list[str]) -> Html:
    """A line that opens to its examples, if there are any."""
    if not examples:
        return tag("div", line, class_="reason find")
    items = [tag("li", foreign(text), class_="find") for text in examples[:MAX_EXAMPLES]]
    return tag("details", tag("summary", line, class_="reason"), tag("ol", items))


def describe_filters(report: dict) -> Section | None:
    """What filters dropped is among what was dropped; here is by which share, and what changed."""
    filters = report.get("filters") or {}
    dropped, found = filters.get("dropped", {}), filters.get("found", {})
    parts = []
    for name, entry in sorted(dropped.items())[:MAX_ROWS]:
        line = tag("span", foreign(name), class_="name"), tag("span", number(entry["documents"]))
        share = tag("span", percent(entry["share"]), " dropped"), bar(entry["share"])
        parts.append(expandable((line, share), entry["examples"]))
    examined = max(1, filters.get("examined", 0))
    for name, entry in sorted(found.items())[:MAX_ROWS]:
        texts = plural(entry["texts"], "text")
        line = (
            tag("span", foreign(name), class_="name"), tag("span", number(entry["changes"])),
            tag("span", f"in {texts}"), bar(entry["texts"] / examined),
        )  # fmt: skip
        parts.append(expandable(line, entry["examples"]))
    contradictions = describe_contradictions(filters.get("contradictions"))
    if not parts and not contradictions:
        return None
    lead = f"{plural(filters['examined'], 'record')} reached the filters."
    parts = [tag("p", lead, class_="lead"), *parts]
    return section("filters", "Filters", parts, contradictions)


def describe_contradictions(entry: dict | None) -> Html | None:
    if not entry:
        return None
    count = entry["questions_with_other_answers"]
    line = f"{plural(entry['questions'], 'question')}, {number(count)} with several answers."
    items = [tag("li", foreign(text), class_="find") for text in entry["examples"][:MAX_EXAMPLES]]
    return tag("div", tag("h3", "Contradictions"), tag("p", line), tag("ul", items))


def describe_copies(report: dict) -> Section | None:
    copies = report.get("duplicates")
    if not copies or not copies["clusters"]:
        return None
    count = plural(copies["copies"], "document")
    lead = f"{count} had the tokens of one before, and fell. Those with most copies:"
    described = []
    for cluster in copies["clusters"]:
        name = tag("span", plural(cluster["size"], "document"), class_="name")
        quote = tag("span", foreign(cluster["text"], 80), class_="quote")
        places = [("copy", place) for place in cluster["copies"]]
        more = cluster["size"] - 1 - len(places)
        if "kept" in cluster:  # Reports of older versions do not say.
            places = [("kept", cluster["kept"]), *places]
        items = [tag("li", tag("em", verb), " ", foreign(place)) for verb, place in places]
        items += [tag("li", f"and {number(more)} more")] * (more > 0)
        opened = tag("p", foreign(cluster["text"])), tag("ul", items, class_="cluster")
        summary = tag("summary", name, quote, class_="reason")
        described.append(tag("details", summary, opened, class_="find"))
    return section("copies", "Exact copies", tag("p", lead, class_="lead"), described)


def describe_duplicates(report: dict) -> Section | None:
    near = report.get("near_duplicates")
    if not near:
        return None
    sizes = sorted(((int(size), n) for size, n in near["clusters_by_size"].items()))
    rows = [[number(size), number(count), number(size * count)] for size, count in sizes]
    option = (report.get("recipe") or {}).get("near") or {}
    is_dropped = option.get("action") == "drop"
    copies = "1 near copy" if near["copies"] == 1 else f"{number(near['copies'])} near copies"
    clusters = plural(sum(count for _, count in sizes), "cluster")
    lead = f"{copies} in {clusters}, {'dropped' if is_dropped else 'kept'}."
    proof = [
        ("pairs compared exactly", number(near["pairs_compared"])),
        ("documents not compared", number(near["documents_not_compared"])),
        ("threshold", option.get("threshold", "")),
    ]
    shown = table(
        "Clusters by size", None, ["documents in a cluster", "clusters", "documents"],
        rows[:MAX_ROWS], "nnn",
    ) if rows else None  # fmt: skip
    described = [describe_cluster(cluster) for cluster in near["clusters"][:MAX_ROWS]]
    return section(
        "duplicates", "Near duplicates", tag("p", lead, class_="lead"), facts(proof), shown,
        described,
    )  # fmt: skip


def describe_cluster(cluster: dict) -> Html:
    texts = [("kept", cluster["kept"]), *(("copy", fallen) for fallen in cluster["fell"])]
    items = [
        tag("li", tag("em", verb), " ", foreign(text["place"]), tag("p", foreign(text["text"])),
            class_="find")
        for verb, text in texts
    ]  # fmt: skip
    more = cluster["size"] - len(items)
    if more > 0:
        items.append(tag("li", f"and {number(more)} more"))
    name = tag("span", plural(cluster["size"], "document"), class_="name")
    beginning = tag("span", foreign(cluster["kept"]["text"], 80), class_="quote")
    summary = tag("summary", name, beginning, class_="reason")
    return tag("details", summary, tag("ul", items, class_="cluster"))


def describe_decontamination(report: dict) -> Section | None:
    checks = report.get("decontamination")
    if not checks:
        return None
    left = sum(check["overlaps_left"] for check in checks.values())
    verdict = (
        "Nothing of the evaluation texts is left in the training shards: a second search over all "
        "that stays found no overlap."
        if left == 0
        else f"{plural(left, 'overlap')} left in the training shards."
    )
    parts = [tag("p", verdict, class_="lead")]
    names = {"runs": "runs of words looked for", "quarantined": "documents taken out",
             "overlaps_left": "overlaps left", "entries": "evaluation texts",
             "entries_too_short": "of these too short to look for",
             "records_refused": "evaluation records not read",
             "common_runs_left_out": "set phrases left out"}  # fmt: skip
    for reason, check in sorted(checks.items())[:MAX_ROWS]:
        shown = [(name, number(check[key])) for key, name in names.items() if key in check]
        files = [tag("li", foreign(file)) for file in check.get("files", [])[:MAX_ROWS]]
        parts += [tag("h3", foreign(reason)), facts(shown), tag("ul", files) if files else None]
        examples = report.get("examples", {}).get(reason, [])
        if examples:
            name = tag("span", "Examples of what was taken out", class_="name")
            parts.append(expandable(name, examples))
    return section("decontamination", "Decontamination", parts)

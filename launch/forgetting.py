# SPDX-License-Identifier: Apache-2.0
"""Domain gain beside general forgetting, for each method: see launch/forgetting."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

TEMPER = Path(__file__).resolve().parent / "temper"
FACTOR = 0.5  # Of the tuned weights, in the interpolation.
LORA_RATE = 2.0  # A LoRA's learning rate is so many times that of whole weights.


def methods(config: dict, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What each sets beside the configuration; the interpolation is made of `full`."""
    domain = config["data"]["train"][0]["path"]
    mixture = f"[{{path: {domain}, weight: 0.75}}, {{path: {arguments.replay}, weight: 0.25}}]"
    model = json.loads((Path(config["model"]["path"]) / "config.json").read_text())
    lower = model["num_hidden_layers"] // 2 - 1
    return {
        "full": [],
        "replay": [f"data.train={mixture}"],
        "l2_sp": ["train.l2_sp=100"],
        "kl": ["train.kl.weight=0.5"],
        "ema": ["train.ema.decay=0.9"],
        "interpolation": [],
        "frozen": [f"train.freeze=[embedding, head, layers.0-{lower}]"],
        "layer_decay": ["train.layer_decay=0.9"],
        "lora": ["method=lora", f"optimizer.learning_rate={LORA_RATE * arguments.learning_rate}"],
    }


MEANING = {
    "full": "all weights, nothing against it",
    "replay": "a quarter of the tokens is general text",
    "l2_sp": "decoupled pull to the start (`train.l2_sp: 100`)",
    "kl": "KL to the start model (`train.kl: {weight: 0.5}`)",
    "ema": "moving mean of the weights (`train.ema: {decay: 0.9}`)",
    "interpolation": f"`temper merge`: {FACTOR} of full, {1 - FACTOR} of the start",
    "frozen": "embedding and lower half frozen (`train.freeze`)",
    "layer_decay": "rates by depth (`train.layer_decay: 0.9`)",
    "lora": f"`method: lora`, rank 16, {LORA_RATE:g} times the rate",
}


def run(*arguments) -> str:
    """Output of temper; what it logs goes to the terminal."""
    command = [str(TEMPER), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def losses_in(metrics: Path) -> dict[int, dict[str, float]]:
    """The hold-outs' losses by step, with the loss of the start at step 0."""
    losses: dict[int, dict[str, float]] = {}
    for line in map(json.loads, metrics.read_text().splitlines() if metrics.exists() else ()):
        if line["kind"] == "evaluation":
            losses.setdefault(line["step"], {})[line["name"]] = line["loss"]
    return losses


def train(folder: Path, overrides: list[str], arguments: argparse.Namespace) -> dict:
    """The losses before and after a run, which is made unless it is there."""
    metrics = folder / "metrics.jsonl"
    if not (folder / "final").exists() or arguments.steps not in losses_in(metrics):
        rate = f"optimizer.learning_rate={arguments.learning_rate}"
        own = [] if any(one.startswith("optimizer.learning_rate") for one in overrides) else [rate]
        run("-n", arguments.ranks, "train", arguments.config, f"run.folder={folder}",
            f"train.max_steps={arguments.steps}", "train.evaluate_every_steps=0",
            "checkpoint.every_steps=0", "checkpoint.keep=1", *own, *overrides,
            *arguments.overrides)  # fmt: skip
        shutil.rmtree(folder / "checkpoints")  # final/ has what is needed of them.
    losses = losses_in(metrics)
    steps = [line for line in map(json.loads, metrics.read_text().splitlines())
             if line["kind"] == "step"]  # fmt: skip
    return {"before": losses[0], "after": losses[arguments.steps],
            "seconds": sum(step["seconds"] for step in steps)}  # fmt: skip


def interpolate(folder: Path, tuned: Path, start: str, arguments: argparse.Namespace) -> dict:
    """The losses of a model between the two."""
    known = folder / "losses.json"
    if not known.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run("merge", "--model", tuned, "--weight", FACTOR, "--model", start,
            "--weight", 1 - FACTOR, folder / "model")  # fmt: skip
        told = run("-n", arguments.ranks, "eval", arguments.config,
                   f"model.path={folder / 'model'}", *arguments.overrides)  # fmt: skip
        shutil.rmtree(folder / "model")
        lines = [dict(word.split("=", 1) for word in line.split())
                 for line in told.splitlines() if line.startswith("holdout=")]  # fmt: skip
        known.write_text(json.dumps({line["holdout"]: float(line["loss"]) for line in lines}))
    return json.loads(known.read_text())


def table(rows: list[dict]) -> str:
    lines = ["| method | | gain on the domain | forgotten of general text |", "|---|---|---:|---:|"]
    for row in rows:
        lines.append(f"| {row['method']} | {MEANING[row['method']]} | {row['gain']:.3f} | "
                     f"{row['forgetting']:+.3f} |")  # fmt: skip
    return "\n".join(lines)


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch/forgetting", description=__doc__)
    parser.add_argument("--config", default="configs/quickstart-cpt.yaml",
                        help="with hold-outs of the roles domain and general")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="default: runs/forgetting-<steps>")
    parser.add_argument("--replay", default="runs/quickstart/shards/general/train.h5",
                        help="a shard of general text, for the method replay")  # fmt: skip
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=5e-4,
                        help="high enough that something is forgotten")  # fmt: skip
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="options of the configuration, for all methods")  # fmt: skip
    parser.add_argument("--methods", help="some of them, with commas; default: all")
    arguments = parser.parse_args(words)
    arguments.folder = arguments.folder or Path(f"runs/forgetting-{arguments.steps}")
    unknown = set((arguments.methods or "full").split(",")) - MEANING.keys()
    if unknown:
        parser.error(f"no method {', '.join(sorted(unknown))}: they are {', '.join(MEANING)}")
    return arguments


def name_of_role(config: dict, role: str) -> str:
    for holdout in config["data"].get("holdout", []):
        if holdout.get("role") == role:
            return holdout["name"]
    sys.exit(f"forgetting: the configuration has no hold-out of role {role}\n"
             f"  try: data: {{holdout: [{{name: ..., role: {role}, path: ...}}]}}")  # fmt: skip


def main() -> None:
    arguments = parse(sys.argv[1:])
    config = yaml.safe_load(Path(arguments.config).read_text())
    domain, general = name_of_role(config, "domain"), name_of_role(config, "general")
    wanted = (arguments.methods or ",".join(MEANING)).split(",")
    rows, start = [], None
    for method, overrides in methods(config, arguments).items():
        if method not in wanted and not (method == "full" and "interpolation" in wanted):
            continue
        folder = arguments.folder / method
        if method == "interpolation":
            tuned = arguments.folder / "full" / "final"
            after = interpolate(folder, tuned, config["model"]["path"], arguments)
            told = {"before": start, "after": after, "seconds": 0.0}
        else:
            told = train(folder, overrides, arguments)
            start = start or told["before"]
        rows.append({"method": method, "gain": start[domain] - told["after"][domain],
                     "forgetting": told["after"][general] - start[general], **told})  # fmt: skip
        report = {"config": arguments.config, "steps": arguments.steps, "methods": rows,
                  "learning_rate": arguments.learning_rate,
                  "overrides": arguments.overrides}  # fmt: skip
        (arguments.folder / "forgetting.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"start: {domain} {start[domain]:.3f}, {general} {start[general]:.3f}\n")
    print(table(rows))


if __name__ == "__main__":
    main()

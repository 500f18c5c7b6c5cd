# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny model with the program on the cards, and compares with its ranks on the CPU.

usage: program.py <ranks> <folder> [<device>]
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "end_to_end"), str(ROOT / "tests" / "app")]

import tiny_job  # noqa: E402

BOUND = 1e-3  # Of the losses of thirty steps, relative.


def losses(ranks: int, folder: Path, device: str, *overrides: str) -> list[float]:
    config = tiny_job.write(folder, evaluates=True)
    text = config.read_text()
    config.write_text(text.replace("dtype: float32", f"dtype: float32, device: {device}"))
    code, log = tiny_job.train(ranks, config, *overrides)
    if code != 0:
        raise SystemExit(f"{folder}: temper ended with {code}\n{log}")
    return tiny_job.losses_of(config)


def main() -> int:
    ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
    device = sys.argv[3] if len(sys.argv) > 3 else "cuda"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failed = False
    for name, overrides in {"full": [], "stage3": ["parallel.stage=3"],
                            "qlora": ["method=qlora"]}.items():  # fmt: skip
        host = losses(1, folder / f"{name}-host", "cpu", *overrides)
        there = losses(ranks, folder / f"{name}-device", device, *overrides)
        again = losses(ranks, folder / f"{name}-again", device, *overrides)
        worst = max(abs(a - b) / abs(b) for a, b in zip(there, host, strict=True))
        print(f"{name}: {worst:.1e} from the CPU, {'the same' if there == again else 'OTHER'} bits")
        failed |= worst > BOUND or there != again
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

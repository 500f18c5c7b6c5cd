# SPDX-License-Identifier: Apache-2.0
"""The kernels as the assembler leaves them for each kind of card: with registers that suffice, and
no more than their headers say.

usage: nvcc_test.py <nvcc> <its flags, from src/kernels.cmake>
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
CARDS = {"sm_80", "sm_90", "sm_100"}
REGISTERS, THREADS, BLOCKS = 65536, 2048, 32  # Of a multiprocessor of these cards.
LEAST_OCCUPANCY = 0.5  # Of what only moves numbers: enough loads under way to fill the memory.

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
USED = re.compile(r"Used (\d+) registers")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
NOTED = re.compile(
    r"/// Registers: at most (\d+), occupancy ([\d.]+)\.\n(?:template <typename T>\n)?"
    r"struct (\w+) \{\s*static constexpr int kNumThreads = (\d+)"
)


def compile_kernel(command: list[str], text: str) -> str:
    """Returns what ptxas says. Raises SystemExit where nvcc fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cu"
        file.write_text(text)
        done = subprocess.run(
            [*command, f"-I{SOURCE}", "-c", str(file), "-o", str(Path(folder) / "kernels.o")],
            capture_output=True, text=True)  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"nvcc ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def kernels_of(said: str):
    """Yields (name, card, registers, bytes of stack and spills) of each."""
    for part in said.split("Compiling entry function ")[1:]:
        name, card = ENTRY.match("Compiling entry function " + part).groups()
        yield name, card, int(USED.search(part)[1]), sum(map(int, SPILLS.search(part).groups()))


def occupancy(registers: int, threads: int) -> float:
    """Of a card's threads; registers are given to warps in eights."""
    of_block = (registers + 7) // 8 * 8 * threads
    return min(REGISTERS // of_block, THREADS // threads, BLOCKS) * threads / THREADS


def noted_kernels() -> dict[str, tuple[int, int, float]]:
    """Threads, registers and occupancy of each, as the headers say."""
    found = {}
    for header in SOURCE.rglob("*_kernel.h"):
        for registers, share, name, threads in NOTED.findall(header.read_text()):
            found[name] = (int(threads), int(registers), float(share))
    return found


SPILLING = """
#include "core/kernel.h"
namespace temper {
struct SpillingKernel {
  static constexpr int kNumThreads = 1024, kNumPhases = 1;
  struct Shared {};
  float* numbers;
  int64_t num_blocks() const { return 1; }
  TEMPER_HOST_DEVICE void run(int, GridPlace place, Shared&) const {
    float own[96];
    for (int i = 0; i < 96; ++i) own[i] = numbers[i * 1024 + place.thread];
    for (int k = 0; k < 96; ++k)
      for (int i = 0; i < 96; ++i) own[i] = own[i] * own[(i * 7 + k) % 96] + own[k];
    for (int i = 0; i < 96; ++i) numbers[i * 1024 + place.thread] = own[i];
  }
};
template void launch(const SpillingKernel& kernel, void* stream);
}  // namespace temper
"""


def refuses(command: list[str]) -> bool:
    try:
        compile_kernel(command, SPILLING)
    except SystemExit as refused:
        return "spill" in str(refused)
    return False


def main() -> None:
    command = sys.argv[1:]
    files = sorted(SOURCE.rglob("*.cu"))
    includes = "".join(f'#include "{file.relative_to(SOURCE)}"\n' for file in files)
    noted, cards, bad = noted_kernels(), {}, []
    for mangled, card, registers, spilled in kernels_of(compile_kernel(command, includes)):
        name = next((name for name in noted if f"{len(name)}{name}" in mangled), None)
        if name is None:
            bad.append(f"{mangled} has no line 'Registers: ...' in its header")
            continue
        threads, most, least_share = noted[name]
        share = occupancy(registers, threads)
        line = f"{card} {name} {mangled[-24:]}: {registers} registers, occupancy {share:.2f}"
        print(line)
        cards.setdefault(card, set()).add(name)
        if spilled or registers > most or share < max(least_share, LEAST_OCCUPANCY):
            bad.append(f"{line}, {spilled} bytes of stack and spills; noted are {most} registers")
    for card in CARDS:
        missing = noted.keys() - cards.get(card, set())
        bad += [f"{card}: no {name} was compiled" for name in sorted(missing)]
    if not refuses(command):
        bad.append("a kernel that spills its registers was compiled")
    if bad:
        raise SystemExit("\n".join(bad))


if __name__ == "__main__":
    main()

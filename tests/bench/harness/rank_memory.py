# SPDX-License-Identifier: Apache-2.0
"""Runs a command as one rank of an MPI job and writes the peak of its resident set.

    rank_memory.py <folder> <command> <arguments...>

Leaves <folder>/peak-<rank>, in bytes, and ends as the command did.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path


def main() -> int:
    rank = os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or "0"
    code = subprocess.run(sys.argv[2:]).returncode
    # Linux counts in KiB. What this interpreter itself needs, some 10 MB, is the least it can say.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    Path(sys.argv[1], f"peak-{rank}").write_text(str(peak))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

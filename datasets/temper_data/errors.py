# SPDX-License-Identifier: Apache-2.0
"""The one kind of error that a user can act on."""


class DataError(Exception):
    """A failure of the user's input or machine: the problem, then what to try.

    Both are plain strings, so that the error survives the way back from a worker process.
    """

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  try: {self.remedy}"

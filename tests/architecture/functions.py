# SPDX-License-Identifier: Apache-2.0
"""Finds C++ and Python functions and measures them.

C++ is not parsed: comments and literals are blanked, braces are matched, and the text before an
opening brace, the head, says what it opens. Good enough for code laid out by clang-format.
"""

import ast
import re
from dataclasses import dataclass

MAX_LINES = 60
MAX_LINES_BY_NAME = {"train_step": 40}
MAX_PARAMETERS = 5
MAX_NESTING = 4

LITERAL_OR_COMMENT = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.DOTALL)
# And macros that stand alone on a line, without a semicolon.
PREPROCESSOR = re.compile(
    r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*|^BOOST_\w*TEST_SUITE\w*\([^\n]*\)$", re.MULTILINE)
TYPE_OR_NAMESPACE = re.compile(
    r"\s*(?:template\s*<.*?>\s*)?(?:inline\s+)?(?:namespace|class|struct|union|enum|extern)\b",
    re.DOTALL)
# A constructor's member before its brace, as in ") : first_(1), second_" or ", third_".
MEMBER_INITIALIZER = re.compile(r"\)\s*(?:noexcept\s*)?:\s[^?]*[\w>]\s*$|[,(]\s*[\w:]*\s*$",
                                re.DOTALL)
# if (...), else, a lambda, a bare block: statements follow rather than values.
STATEMENTS = re.compile(
    r"(?:\)|\belse|\bdo|\btry|\bmutable|\bnoexcept|\]|:|^|->\s*[\w:<>&* ]+)\s*$")


@dataclass
class Function:
    name: str
    line: int
    num_parameters: int
    num_lines: int = 0
    nesting: int = 0


class Scanner:
    """Walks over a C++ source and collects its outermost functions."""

    def __init__(self, text):
        self.text = self.blank(text)
        self.functions = []
        self.scopes = []  # What each open brace opened: a Function, "block", "values" or "scope".
        self.head_begin = 0

    @staticmethod
    def blank(text):
        """Replaces comments, literals and preprocessor lines by spaces; line breaks stay."""
        def spaces(match):
            return re.sub(r"[^\n]", " ", match[0])
        return PREPROCESSOR.sub(spaces, LITERAL_OR_COMMENT.sub(spaces, text))

    def scan(self):
        for match in re.finditer(r"[{};]", self.text):
            head = self.text[self.head_begin:match.start()]
            if match[0] == "{":
                opened = self.classify(head, match.start())
                self.scopes.append(opened)
            elif match[0] == "}":
                opened = self.scopes.pop()
                self.close(opened, match.start())
            else:
                opened = "values" if head.count("(") > head.count(")") else "scope"
            if opened != "values":  # Values are part of the head that they stand in.
                self.head_begin = match.end()
        return self.functions

    def classify(self, head, index):
        function = next((scope for scope in self.scopes if isinstance(scope, Function)), None)
        if function:
            if not STATEMENTS.search(head):
                return "values"
            function.nesting = max(function.nesting, self.scopes.count("block") + 1)
            return "block"
        if MEMBER_INITIALIZER.search(head):
            return "values"
        if "(" not in head or TYPE_OR_NAMESPACE.match(head) or head.rstrip().endswith("="):
            return "scope"
        first = self.head_begin + len(head) - len(head.lstrip())
        return Function(name_of(head), self.line(first), count_parameters(head))

    def close(self, opened, index):
        if isinstance(opened, Function):
            opened.num_lines = self.line(index) - opened.line + 1
            self.functions.append(opened)

    def line(self, index):
        return self.text.count("\n", 0, index) + 1


def name_of(head):
    match = re.search(r"([\w~]+|operator\s*\S+?)\s*\(", head)
    return match[1] if match else "function"


def count_parameters(head):
    match = re.search(r"[\w~]\s*\(", head)
    depth, text = 1, ""
    for character in head[match.end():] if match else "":
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            break
        text += character
    previous = None
    while text != previous:  # Commas inside brackets separate no parameters.
        previous, text = text, re.sub(r"[<({\[][^<>(){}\[\]]*[>)}\]]", "", text)
    return text.count(",") + 1 if text.strip() else 0


def cpp_offenders(path):
    for function in Scanner(path.read_text()).scan():
        where = f"{path}:{function.line}: {function.name}"
        allowed = MAX_LINES_BY_NAME.get(function.name, MAX_LINES)
        if function.num_lines > allowed:
            yield f"{where} has {function.num_lines} lines, allowed are {allowed}"
        is_macro = function.name.isupper()  # BOOST_DATA_TEST_CASE(...)
        is_double = re.match(r"(nccl|cuda)[A-Z]", function.name)  # Of another library's.
        if function.num_parameters > MAX_PARAMETERS and not is_macro and not is_double:
            yield f"{where} has {function.num_parameters} parameters, allowed are {MAX_PARAMETERS}"
        if function.nesting > MAX_NESTING:
            yield f"{where} nests {function.nesting} deep, allowed are {MAX_NESTING}"


def python_offenders(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            num_lines = node.end_lineno - node.lineno + 1
            if num_lines > MAX_LINES:
                yield (f"{path}:{node.lineno}: {node.name} has {num_lines} lines, "
                       f"allowed are {MAX_LINES}")

# SPDX-License-Identifier: Apache-2.0
"""Each rule of check.py finds what breaks it, and nothing in what keeps it."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import check
import functions

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


class Rules(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        subprocess.run(["git", "init", "--quiet", self.root], check=True)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def offenders(self, rule):
        return [line.removeprefix(f"{self.root}/") for line in check.RULES[rule](self.root)]

    def assert_one(self, rule, *words):
        found = self.offenders(rule)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_an_include_that_goes_down_or_stays_is_fine(self):
        self.write("src/zero/a.cpp", '#include "zero/a.h"\n#include "core/error.h"\n')
        self.assertEqual(self.offenders("floors"), [])

    def test_an_include_that_climbs_is_found(self):
        self.write("src/core/a.h", '#include "train/trainer.h"\n')
        self.assert_one("floors", "src/core/a.h:1", "core (floor 0)", "train/trainer.h")

    def test_an_include_of_a_sibling_is_found(self):
        self.write("src/optim/a.cpp", '#include "core/b.h"\n#include "model/c.h"\n')
        self.assert_one("floors", "src/optim/a.cpp:2", "model/c.h")

    def test_an_include_without_its_folder_is_found(self):
        self.write("src/core/a.cpp", '#include "a.h"\n')
        self.assert_one("floors", "a.h")

    def test_a_module_on_no_floor_is_found(self):
        self.write("src/util/a.h", "")
        self.assert_one("floors", "util is on no floor")

    def test_an_outside_library_in_another_module_is_found(self):
        self.write("src/comm/a.cpp", "#include <mpi.h>\n#include <ATen/ATen.h>\n")
        self.write("src/train/a.cpp", "#include <vector>\n#include <mpi.h>\n")
        self.assert_one("outside_libraries", "src/train/a.cpp:2", "<mpi.h>")

    def test_the_cuda_part_of_a_library_has_a_rule_of_its_own(self):
        self.write("src/model/a.cpp", "#include <c10/core/Device.h>\n"
                                      "#include <c10/cuda/CUDAStream.h>\n")
        self.assert_one("outside_libraries", "src/model/a.cpp:2", "c10/cuda/CUDAStream.h")

    def test_a_long_header_is_found(self):
        self.write("src/core/a.h", "\n" * 251)
        self.write("src/core/a.cpp", "\n" * 251)
        self.assert_one("sizes", "src/core/a.h", "251 lines")

    def test_a_long_python_program_without_suffix_is_found(self):
        self.write("launch/chat", "#!/usr/bin/env python3\n" + "\n" * 400)
        self.assert_one("sizes", "launch/chat", "401 lines")

    def test_a_wide_line_is_found(self):
        self.write("src/core/a.h", "\n" + "x" * 101 + "\n")
        self.assert_one("sizes", "src/core/a.h:2", "101 columns")

    def test_ignored_files_are_not_read(self):
        self.write(".gitignore", "*.gen.h\n")
        self.write("src/core/a.gen.h", "\n" * 500)
        self.assertEqual(self.offenders("sizes"), [])

    def test_a_long_python_function_is_found(self):
        self.write("datasets/a.py", "def f():\n" + "    pass\n" * 60)
        self.assert_one("functions", "datasets/a.py:1", "f has 61 lines")

    def test_a_todo_without_an_issue_is_found(self):
        self.write("src/core/a.cpp", "// TODO(#12): faster\n// TODO: faster\n")
        self.assert_one("todos", "src/core/a.cpp:2", "TODO: faster")

    def test_a_file_without_a_licence_is_found(self):
        self.write("src/core/a.cpp", SPDX)
        self.write("src/core/b.cpp", "int x;\n")
        self.assert_one("licences", "src/core/b.cpp")

    def test_unformatted_cpp_is_found(self):
        self.write("src/core/a.cpp", "int x = 1;\n")
        self.write("src/core/b.cpp", "int  x=1;\n")
        self.assert_one("formatting", "src/core/b.cpp:1", "clang-format -i")

    def test_a_fault_in_a_script_is_found(self):
        self.write("launch/a", "#!/usr/bin/env bash\necho $1\n")
        self.write("launch/b", "#!/usr/bin/env python3\nprint()\n")
        self.assert_one("scripts", "launch/a:2", "SC2086")


class Functions(unittest.TestCase):
    def scan(self, text):
        return functions.Scanner(text).scan()

    def only(self, text):
        found = self.scan(text)
        self.assertEqual(len(found), 1, found)
        return found[0]

    def assert_offends(self, text, *words):
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as file:
            file.write(text)
            file.flush()
            found = list(functions.cpp_offenders(Path(file.name)))
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_a_long_function_is_found(self):
        self.assert_offends("namespace t {\nvoid f() {\n" + "  g();\n" * 59 + "}\n}\n",
                            ":2: f has 61 lines")

    def test_train_step_has_a_limit_of_its_own(self):
        self.assert_offends("R T::train_step(B b) {\n" + "  g();\n" * 39 + "}\n", "has 41 lines")

    def test_many_parameters_are_found(self):
        self.assert_offends("void f(int a, int b, int c, int d, int e, int g) {}\n", "6 parameters")

    def test_deep_nesting_is_found(self):
        body = "if (a) { for (;;) { while (b) { if (c) { do { g(); } while (d); } } } }"
        self.assert_offends("void f() { " + body + " }\n", "nests 5 deep")

    def test_commas_in_types_and_defaults_separate_no_parameters(self):
        function = self.only("void f(std::map<int, std::pair<A, B>> m, P p = P{1, 2}) {\n}\n")
        self.assertEqual(function.num_parameters, 2)

    def test_braces_in_literals_and_comments_open_nothing(self):
        function = self.only("void f() {  // {\n  g('{', \"}{\", R\"(})\");\n  /* { */\n}\n")
        self.assertEqual(function.num_lines, 4)

    def test_a_constructor_with_initializers_is_one_function(self):
        function = self.only("A::A(int a, int b)\n    : a_{a}, b_(b), c_{1} {\n  g();\n}\n")
        self.assertEqual((function.name, function.num_lines, function.num_parameters), ("A", 4, 2))

    def test_values_in_braces_do_not_nest(self):
        function = self.only("void f() {\n  const A a{{1, 2}, {3}};\n  return g({a, {4}});\n}\n")
        self.assertEqual((function.nesting, function.num_lines), (0, 4))

    def test_types_and_tables_are_no_functions(self):
        self.assertEqual(self.scan("struct A { int a; };\nconst int t[] = {f(1), 2};\n"
                                   "enum class E { kA };\n"), [])

    def test_methods_and_test_cases_are_functions(self):
        text = "class A {\n  int f() const { return 1; }\n};\nBOOST_AUTO_TEST_CASE(a) {\n}\n"
        self.assertEqual([f.name for f in self.scan(text)], ["f", "BOOST_AUTO_TEST_CASE"])


if __name__ == "__main__":
    unittest.main()

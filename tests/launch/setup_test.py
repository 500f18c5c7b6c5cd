# SPDX-License-Identifier: Apache-2.0
"""launch/setup, without the network: what it says and does around the downloads."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SETUP = Path(__file__).resolve().parents[2] / "launch" / "setup"
BASE_TOOLS = ("awk", "bash", "cut", "dirname", "env", "flock", "grep", "mkdir", "rm", "sed",
              "sha256sum", "touch")


class Setup(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_setup(self, *arguments, **environment):
        return subprocess.run(
            [shutil.which("bash"), SETUP, *arguments], text=True, capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder),
                 "TEMPER_CACHE": str(self.folder / "cache"), **environment})

    def deps(self):
        lines = self.run_setup("--print-env").stdout.splitlines()
        line = next(line for line in lines if " TEMPER_DEPS=" in line)
        return Path(line.split('"')[1])

    def pretend_complete(self, *sets):
        for name in sets:
            (self.deps() / name).mkdir(parents=True)
            (self.deps() / name / "complete").touch()

    def path_with(self, *commands, **scripts):
        """A PATH with the base tools, the given ones, and scripts of the given names."""
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        for tool in (*BASE_TOOLS, *commands):
            (bin_folder / tool).symlink_to(shutil.which(tool))
        for name, body in scripts.items():
            script = bin_folder / name
            script.write_text(f"#!{shutil.which('bash')}\n{body}\n")
            script.chmod(0o755)
        return str(bin_folder)

    def test_the_folder_follows_the_cache_setting_and_the_lock(self):
        self.assertEqual(self.deps().parent, self.folder / "cache")
        self.assertRegex(self.deps().name, "^[0-9a-f]{16}$")

    def test_a_complete_setup_says_one_line_and_installs_nothing(self):
        self.pretend_complete("data", "libtorch")
        run = self.run_setup()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stderr, f"setup: complete: data libtorch in {self.deps()}\n")

    def test_without_apt_it_names_what_is_missing_and_where_to_get_it(self):
        run = self.run_setup(PATH=self.path_with("g++", "cmake"))
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r"mpicc +Debian: libopenmpi-dev +module load openmpi")
        self.assertRegex(run.stderr, r"ninja +Debian: ninja-build .* spack install ninja")
        self.assertNotIn(" cmake ", run.stderr)
        self.assertFalse((self.deps() / "libtorch").exists())

    def test_where_there_is_nothing_to_build_it_wants_no_compiler(self):
        installed = self.folder / "installed" / "launch"
        installed.mkdir(parents=True)
        for name in ("setup", "env", "lock"):
            shutil.copy(SETUP.parent / name, installed)
        self.pretend_complete("data")
        run = subprocess.run(
            [shutil.which("bash"), installed / "setup"], text=True, capture_output=True,
            env={"PATH": self.path_with(python3="exit 0"), "HOME": str(self.folder),
                 "TEMPER_CACHE": str(self.folder / "cache")})
        self.assertEqual(run.stderr, f"setup: complete: data in {self.deps()}\n")

    def test_only_tests_need_what_only_tests_use(self):
        path = self.path_with("g++")
        self.assertNotIn("shellcheck", self.run_setup(PATH=path).stderr)
        self.assertIn("shellcheck", self.run_setup("--tests", PATH=path).stderr)

    def test_a_set_without_its_mark_is_torn_and_installed_again(self):
        self.pretend_complete("libtorch")
        torn = self.deps() / "data" / "torn"
        torn.parent.mkdir()
        torn.touch()
        # Everything is there but a network: the venv is made anew, and then its pip fails.
        run = self.run_setup(PIP_INDEX_URL="file:///nowhere", PIP_FIND_LINKS="", PIP_RETRIES="0",
                             PIP_NO_CACHE_DIR="1")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("setup: installing data", run.stderr)
        self.assertFalse(torn.exists())
        self.assertFalse((self.deps() / "data" / "complete").exists())

    def test_programs_say_what_installs_them(self):
        for program in ("lm-eval", "serve", "board"):
            run = subprocess.run(
                [SETUP.parent / program, "--model", "x"], text=True, capture_output=True,
                env={"PATH": os.environ["PATH"], "TEMPER_CACHE": str(self.folder / "cache")})
            self.assertEqual(run.returncode, 1)
            self.assertEqual(run.stderr, f"{program}: run launch/setup --{program} first\n")

    def test_an_unknown_option_is_refused(self):
        run = self.run_setup("--test")
        self.assertEqual(run.returncode, 1)
        self.assertIn("unknown option --test", run.stderr)
        self.assertIn("usage: launch/setup", run.stderr)


if __name__ == "__main__":
    unittest.main()

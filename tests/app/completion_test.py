# SPDX-License-Identifier: Apache-2.0
"""What is made of the command line's tables: completions, in the shells themselves, and manuals."""

import os
import pty
import re
import select
import subprocess
import time

import pytest

from tiny_run import temper

# What is typed before the tab, what is typed after it, and what the program gets.
LINES = [
    ("tra", "", "train"),
    ("check --ra", "4", "check --ranks 4"),
    ("eval x --weights ne", "", "eval x --weights newest"),
    ("merge --combine dare_t", "", "merge --combine dare_ties"),
    ("completion fi", "", "completion fish"),
    ("check quick", "", "check quickstart.yaml"),
    ("check quickstart.yaml train.max_st", "5", "check quickstart.yaml train.max_steps=5"),
    ("train quickstart.yaml method=qlo", "", "train quickstart.yaml method=qlora"),
    ("train quickstart.yaml parallel.prefetch=f", "",
     "train quickstart.yaml parallel.prefetch=false"),
]  # fmt: skip
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set bell-style none'; "),
    "zsh": (["zsh", "-f", "-i"], "unsetopt PROMPT_CR PROMPT_SP; autoload -Uz compinit; "
                                 "compinit -D -u; "),
}  # fmt: skip


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, command, folder):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder), "PS1": "$ "})
        os.close(slave)

    def type(self, text, wanted):
        """Returns what the terminal shows until `wanted`, a pattern, matches."""
        os.write(self.master, text.encode())
        shown, end = "", time.monotonic() + 60
        while not re.search(wanted, shown):
            ready = select.select([self.master], [], [], end - time.monotonic())[0]
            assert ready, f"{wanted} did not come: {shown!r}"
            shown += os.read(self.master, 65536).decode(errors="replace")
        return shown

    def close(self):
        os.close(self.master)
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_what_is_typed(shell, tmp_path):
    (tmp_path / "quickstart.yaml").touch()
    script = tmp_path / "_temper"
    script.write_text(temper("completion", shell).stdout)
    command, setting = SHELLS[shell]
    terminal = Terminal(command, tmp_path)
    try:
        terminal.type(f"{setting}. {script}; temper() {{ echo \"got <$*>\"; }}; PS1='rea''dy> '\n",
                      "ready> ")
        for before, after, wanted in LINES:
            shown = terminal.type(f"temper {before}\t{after}\n", r"got <.*>[\s\S]*ready> ")
            got = re.search("got <(.*?) ?>", shown)[1]
            assert got == wanted
    finally:
        terminal.close()


def test_fish_completes_what_is_typed(tmp_path):
    (tmp_path / "quickstart.yaml").touch()
    (tmp_path / "temper.fish").write_text(temper("completion", "fish").stdout)
    lines = "".join(f"complete -C 'temper {before}'; echo end\n" for before, _, _ in LINES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", "source temper.fish\n" + lines], capture_output=True,
        text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert done.stderr == ""
    found = done.stdout.split("end\n")[:-1]
    assert len(found) == len(LINES)
    for (before, after, wanted), answer in zip(LINES, found, strict=True):
        words = {line.split("\t")[0] for line in answer.splitlines()}
        assert wanted.removesuffix(after).split()[-1] in words, (before, answer)


def test_every_verb_and_option_is_completed_and_in_the_manual():
    manual = subprocess.run(["mandoc", "-Tascii", "-Owidth=500"], input=temper("man").stdout,
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    manual = re.sub(".\b", "", manual)
    scripts = {shell: temper("completion", shell).stdout for shell in ("bash", "zsh", "fish")}
    verbs = re.findall(r"(?m)^  ([a-z-]+)  ", temper("--help").stdout.split("Subcommands:")[1])
    assert len(verbs) > 12
    for verb in verbs:
        section = re.search(rf"(?m)^   {verb}\n((?:.*\n)*?)(?=^   \S|^\S)", manual)[1]
        for option in re.findall(r"(?m)^ +(?:-h,)?(--[a-z-]+)", temper(verb, "--help").stdout):
            assert re.search(rf"(?m)^ +{option}\b", section), (verb, option)
            bash = re.search(rf"(?m)^    {verb}\) options='(.*?)'", scripts["bash"])[1]
            assert option in bash.split()
            zsh = re.search(rf"(?m)^    {verb}\) _arguments((?:.*\n)*?.*;;)", scripts["zsh"])[1]
            assert re.search(rf"{option}=?\[", zsh)
            assert f"from {verb}' -l {option[2:]} " in scripts["fish"]


@pytest.mark.parametrize("page", ["temper", "temper-config"])
def test_a_manual_page_is_well_formed(page):
    text = temper("man", page).stdout
    lint = subprocess.run(["mandoc", "-Tlint"], input=text, capture_output=True, text=True)
    # No date: the same program has the same page, whenever it was built.
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []
    for tool in (["mandoc", "-Tascii"], ["man", "--warnings", "-l", "-"]):
        done = subprocess.run(tool, input=text, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "NAME" in re.sub(".\b", "", done.stdout)


def test_the_bash_script_passes_shellcheck():
    done = subprocess.run(["shellcheck", "--shell=bash", "-"],
                          input=temper("completion", "bash").stdout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

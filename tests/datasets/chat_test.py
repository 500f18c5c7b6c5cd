# SPDX-License-Identifier: Apache-2.0
"""chat.py: questions to ids and ids to text, as transformers has them."""

import pytest
import templates
from conftest import run_program, write_model
from transformers import AutoTokenizer


def ids_of(done) -> list[int]:
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_question_becomes_the_prompt_of_transformers(tmp_path):
    folder = write_model(tmp_path, templates.LLAMA3)
    oracle = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Grüße?"}]
    expected = oracle.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids_of(run_program("chat.py", "encode", folder, "Grüße?", "--system", "S")) == expected
    piped = run_program("chat.py", "encode", folder, "--system", "S", input="Grüße?\n")
    assert ids_of(piped) == expected
    text = '[{"role": "system", "content": "S"}, {"role": "user", "content": "Grüße?"}]'
    assert ids_of(run_program("chat.py", "encode", folder, text, "--messages")) == expected


def test_raw_text_gets_the_beginning_token(tmp_path):
    folder = write_model(tmp_path, add_bos_token=True)
    assert ids_of(run_program("chat.py", "encode", folder, "ab", "--raw"))[0] == 256


def test_ids_become_text(tmp_path):
    folder = write_model(tmp_path, templates.CHATML)
    ids = ids_of(run_program("chat.py", "encode", folder, "Grüße?"))
    line = " ".join(map(str, ids))
    done = run_program("chat.py", "decode", folder, input=f"{line}\n{ids[-2]},{ids[-1]}\n")
    assert done.stdout == "user\nGrüße?\nassistant\n\nt\n\n"
    kept = run_program("chat.py", "decode", folder, "--keep-special", input=line)
    assert kept.stdout.startswith("<|im_start|>user\nGrüße?<|im_end|>")


@pytest.mark.parametrize(
    ("template", "arguments", "stdin", "says"),
    [
        (None, ["encode", "x"], "", "has no chat template"),
        ("{{ raise_exception('no') }}", ["encode", "x"], "", "refuses the conversation: no"),
        (templates.CHATML, ["encode", "{", "--messages"], "", "the messages are no JSON"),
        (templates.CHATML, ["encode", "{}", "--messages"], "", "no list of objects"),
        (templates.CHATML, ["decode"], "1 x\n", "invalid literal"),
        (templates.CHATML, ["decode"], "5 9999\n", "token id 9999 is outside the vocabulary"),
        (templates.CHATML, ["decode"], "-1\n", "token id -1 is outside the vocabulary"),
    ],
)
def test_errors_say_what_to_do(tmp_path, template, arguments, stdin, says):
    folder = write_model(tmp_path, template)
    verb, *rest = arguments
    done = run_program("chat.py", verb, folder, *rest, input=stdin)
    assert done.returncode == 1 and says in done.stderr and "try: " in done.stderr

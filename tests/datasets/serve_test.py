# SPDX-License-Identifier: Apache-2.0
"""launch/serve: what the endpoint answers, beside transformers, and its page in a real browser."""

import http.client
import json
import subprocess
import time
from pathlib import Path

import peft
import psutil
import pytest
import torch
from answering_model import POSITIONS, greedy_text, write_answering_model
from browser import DEADLINE_SECONDS, Browser
from conftest import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

HELLO = [{"role": "user", "content": "Grüße?"}]
GREEDY = {"temperature": 0, "max_tokens": 12}


def write_adapter(model: Path, folder: Path) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear",
                             init_lora_weights=False)  # fmt: skip
    torch.manual_seed(5)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)


class Server:
    """One launch/serve, and requests to it."""

    def __init__(self, folder: Path):
        self.model = write_answering_model(folder / "model")
        write_adapter(self.model, folder / "adapter")
        self.tokenizer = AutoTokenizer.from_pretrained(self.model)
        self.log = folder / "log"
        words = (ROOT / "launch/serve", self.model, "--adapter", f"tuned={folder / 'adapter'}",
                 "--port", 0, "--dtype", "float32", "--threads", 1)  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(list(map(str, words)), stderr=log)
        end = time.monotonic() + 120
        while "/v1 has model, tuned" not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        self.port = int(self.log.read_text().split("127.0.0.1:")[1].split("/")[0])

    def send(self, path: str, body=None, **headers) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def ask(self, path: str, **body) -> dict:
        status, text = self.send(f"/v1/{path}", body)
        assert status == 200, text
        return json.loads(text)

    def events(self, path: str, **body) -> list[dict]:
        status, text = self.send(f"/v1/{path}", body | {"stream": True})
        assert status == 200 and text.endswith("data: [DONE]\n\n"), text
        return [json.loads(event[6:]) for event in text.split("\n\n")[:-2]]

    def refused(self, path: str, body, status: int, message: str, param=None) -> None:
        found, text = self.send(path, body)
        error = json.loads(text)["error"]
        assert (found, error["param"]) == (status, param) and message in error["message"], text
        assert error["type"] == "invalid_request_error"

    def end(self) -> None:
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        assert self.process.wait(60) is not None
        assert not psutil.wait_procs(children, timeout=30)[1]  # None is left.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("served"))
    yield server
    server.end()


def test_models_are_listed_by_name(server):
    models = json.loads(server.send("/v1/models")[1])
    assert [model["id"] for model in models["data"]] == ["model", "tuned"]
    assert json.loads(server.send("/v1/models/tuned")[1])["id"] == "tuned"
    server.refused("/v1/models/other", None, 404, "there is no model 'other'", "model")


def test_a_chat_is_answered_as_transformers_does_and_streamed_alike(server):
    ids = server.tokenizer.apply_chat_template(
        HELLO, add_generation_prompt=True, return_dict=False
    )
    expected = greedy_text(server.model, server.tokenizer, ids, 12)
    whole = server.ask("chat/completions", messages=HELLO, **GREEDY)
    choice = whole["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": expected}
    assert choice["finish_reason"] in ("stop", "length") and whole["model"] == "model"
    assert whole["usage"]["prompt_tokens"] == len(ids)
    usage = {"include_usage": True}
    events = server.events("chat/completions", messages=HELLO, stream_options=usage, **GREEDY)
    assert events.pop()["usage"] == whole["usage"]
    parts = [event["choices"][0] for event in events]
    assert parts[0]["delta"]["role"] == "assistant"
    assert "".join(part["delta"].get("content", "") for part in parts) == expected
    assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1]["finish_reason"] == choice["finish_reason"]
    tuned = server.ask("chat/completions", model="tuned", messages=HELLO, **GREEDY)
    assert tuned["choices"][0]["message"]["content"] != expected and tuned["model"] == "tuned"


def test_an_echo_has_the_log_probabilities_of_transformers(server):
    ids = [server.tokenizer.convert_tokens_to_ids(letter) for letter in "abcab"]
    model = AutoModelForCausalLM.from_pretrained(server.model, dtype=torch.float32)
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([ids])).logits[0], 1)
    options = {"max_tokens": 1, "temperature": 0, "logprobs": 2, "echo": True}
    texts = server.ask("completions", prompt=["abcab", "b"], **options)["choices"]
    assert server.ask("completions", prompt=[ids], **options)["choices"] == texts[:1]
    assert texts[0]["text"].startswith("abcab") and texts[1]["text"].startswith("b")
    told = texts[0]["logprobs"]
    assert told["tokens"][:5] == list("abcab") and told["text_offset"] == [0, 1, 2, 3, 4, 5]
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    for place, token in enumerate(ids[1:], start=1):
        row = expected[place - 1]
        assert told["token_logprobs"][place] == pytest.approx(row[token].item(), abs=1e-4)
        top = max(told["top_logprobs"][place].values())
        assert top == pytest.approx(row.max().item(), abs=1e-4)
    assert told["token_logprobs"][5] == pytest.approx(expected[-1].max().item(), abs=1e-4)
    assert server.ask("completions", prompt="abcab", **options | {"max_tokens": 0})["choices"][0][
        "logprobs"]["token_logprobs"] == told["token_logprobs"][:5]  # fmt: skip


def test_seeds_choices_and_stops(server):
    body = {"prompt": "What?", "n": 3, "seed": 5, "max_tokens": 30, "temperature": 1.5}
    first, again = (server.ask("completions", **body)["choices"] for _ in range(2))
    assert first == again and len({choice["text"] for choice in first}) == 3
    other = server.ask("completions", **body | {"seed": 6})["choices"]
    assert other[0]["text"] != first[0]["text"]
    stop = first[0]["text"][3:5]
    assert len(stop) == 2
    cut = server.ask("completions", **body, stop=["☃", stop], logprobs=0)["choices"]
    for whole, choice in zip(first, cut, strict=True):
        assert choice["text"] == whole["text"].split(stop)[0]
        assert stop not in whole["text"] or choice["finish_reason"] == "stop"
    assert len(cut[0]["logprobs"]["tokens"]) < 30
    texts = ["", "", ""]
    for event in server.events("completions", **body, stop=["☃", stop]):
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == [choice["text"] for choice in cut]


def test_chat_log_probabilities_are_told_token_by_token(server):
    body = {"messages": HELLO, "logprobs": True, "top_logprobs": 2, "seed": 1, "max_tokens": 9}
    whole = server.ask("chat/completions", **body)["choices"][0]["logprobs"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in whole) and whole
    events = server.events("chat/completions", **body)
    streamed = [event["choices"][0]["logprobs"] for event in events]
    assert [entry for part in streamed if part for entry in part["content"]] == whole


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        ("completions", "{", "the body is no JSON", None),
        ("completions", [], "the body is no JSON object", None),
        ("completions", {}, "prompt is 'None', wanted a text, token ids", "prompt"),
        ("completions", {"prompt": [1, "a"]}, "prompt is '1', wanted", "prompt"),
        ("completions", {"prompt": [999]}, "prompt token 0 is 999, wanted an id", None),
        ("completions", {"prompt": "a", "max_tokens": 600}, "but the model knows 512 posi", None),
        ("completions", {"prompt": "a", "temperature": "x"}, "wanted a number from 0 to 100",
         "temperature"),
        ("completions", {"prompt": "a", "logprobs": 21}, "wanted a whole number from 0 to 20",
         "logprobs"),
        ("completions", {"prompt": "a", "best_of": 2}, "best_of is not supported", "best_of"),
        ("completions", {"prompt": "a", "stop": [1]}, "stop is '[1]', wanted", "stop"),
        ("completions", {"prompt": "a", "promt": 1}, "there is no parameter 'promt'", "promt"),
        ("completions", {"prompt": "a", "stream": 1}, "stream is '1', wanted true", "stream"),
        ("chat/completions", {"messages": []}, "messages is '[]', wanted", "messages"),
        ("chat/completions", {"messages": [{"content": "x"}]}, "has no role", "messages"),
        ("chat/completions", {"messages": HELLO, "tools": [1]}, "tools is not supported", "tools"),
        ("chat/completions", {"messages": HELLO, "top_logprobs": 1}, "needs logprobs",
         "top_logprobs"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_the_shape_of_the_api(server, path, body, message, param):
    server.refused(f"/v1/{path}", body, 400, message, param)
    if isinstance(body, dict) and "stream" not in body:
        server.refused(f"/v1/{path}", body | {"stream": True}, 400, message, param)


def test_other_addresses_and_names_are_refused(server):
    server.refused("/v1/nothing", None, 404, "GET /v1/nothing: Not Found")
    server.refused("/v1/completions", None, 405, "Method Not Allowed")
    body = {"model": "other", "prompt": "a"}
    server.refused("/v1/completions", body, 404, "there is no model 'other'", "model")
    assert server.send("/v1/models", Host="example.org")[0] == 400


def temper_of(server: Server) -> psutil.Process:
    """The process of the model itself, which was the first to start."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return min((p for p in found if "generate" in p.cmdline()), key=lambda p: p.create_time())


def test_a_client_that_leaves_ends_its_answer(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = {"prompt": "a", "max_tokens": POSITIONS - 40, "stream": True, "n": 20}
    connection.request("POST", "/v1/completions", json.dumps(body))
    connection.getresponse().read(10)
    connection.close()
    assert server.ask("completions", prompt="a", **GREEDY)["choices"]


def test_a_model_process_that_is_killed_is_started_again(server):
    temper_of(server).kill()
    deadline = time.monotonic() + 60
    while True:
        status, text = server.send("/v1/completions", {"prompt": "a", **GREEDY})
        if status == 200:
            break
        error = json.loads(text)["error"]
        assert (status, error["type"]) == (500, "server_error") and "ended with code" in text
        assert time.monotonic() < deadline


def test_a_model_that_cannot_be_loaded_ends_the_start(server, tmp_path):
    model = write_answering_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"torn")
    command = [ROOT / "launch/serve", model, "--port", "0"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "the model's process ended with code 13" in done.stderr
    taken = [ROOT / "launch/serve", server.model, "--port", server.port]
    done = subprocess.run(list(map(str, taken)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"port {server.port} cannot be had" in done.stderr


def wait_until(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, browser.evaluate("document.body.innerText")
        time.sleep(0.05)


def test_the_page_chats(server, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{server.port}/")
        wait_until(browser, "document.querySelectorAll('#model option').length === 2")
        browser.evaluate("document.getElementById('temperature').value = 0")
        browser.evaluate("document.getElementById('tokens').value = 12")
        browser.evaluate("document.getElementById('text').focus()")
        browser.type("Hi <b>")
        browser.press("Enter", "\r")
        ended = "document.querySelectorAll('.turn').length === 2 && stop && !send.hidden"
        wait_until(browser, ended.replace("send", "document.getElementById('send')"))
        texts = "[...document.querySelectorAll('.turn')].map((turn) => turn.textContent)"
        messages = [{"role": "user", "content": "Hi <b>"}]
        answer = server.ask("chat/completions", messages=messages, **GREEDY)["choices"][0]
        assert browser.evaluate(texts) == ["Hi <b>", answer["message"]["content"]]
        browser.evaluate("document.getElementById('tokens').value = 9999")
        browser.evaluate("document.getElementById('text').focus()")
        browser.type("x")
        browser.press("Enter", "\r")
        wait_until(browser, "document.querySelector('.error') !== null")
        assert "prompt and answer may take" in browser.evaluate(texts)[-1]
        browser.evaluate("document.getElementById('anew').click()")
        assert browser.evaluate(texts) == []
        assert all(url.startswith(f"http://127.0.0.1:{server.port}/") or url.startswith("data:")
                   for url in browser.requests())  # fmt: skip

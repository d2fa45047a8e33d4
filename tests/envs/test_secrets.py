"""Keys: how they are checked, and that no form of one is left in a text."""

import json
import pickle
import time

import pytest
from helpers.encodings import encodings, found_in
from helpers.retrieval_servers import Server
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs import secrets
from sdar_envs.errors import InvalidOption
from sdar_envs.http.transport import NoResponse, Response, Transport
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.retriever import RetrievalFailed
from sdar_envs.secrets import bearer_header, check_headers, check_no_secrets, read_secret, redact, redact_all

KEYS = {
    "of a provider": "sk-proj-Ab12_Cd34-Ef56",
    "with everything": "k/+=\"'<&>%\\~{}[]|^`$#@!?;:,.()*",
    "of eight characters": "hunter2!",
    "of seven": "hunter2",
    "of four": "a/b\\",
    "a word": "shelf",
    "a number": "123456",
}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(secrets, "_known", ())
    monkeypatch.setattr(secrets, "_patterns", None)


def know(key, monkeypatch):
    monkeypatch.setenv("SOME_KEY", key)
    return read_secret("SOME_KEY", argument="api_key_env")


# -- where they enter -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["sk-proj-0123456789", "sk proj", "", "2KEY", "KEY\n", "SCHLÜSSEL", "$MY_KEY", "KEY=1", None, 5, b"KEY"]
)
def test_what_is_no_name_is_refused_unseen(name):
    with pytest.raises(InvalidOption, match="api_key_env is no name of an environment variable") as refused:
        read_secret(name, argument="api_key_env")
    assert not name or str(name) not in str(refused.value)


@pytest.mark.parametrize("name", ["hf_abcdefghijklmnopqrst", "AKIAIOSFODNN7EXAMPLE", "hunter2", "OPENAI_API_KEYS"])
def test_a_name_that_no_variable_has_is_refused_unseen(name, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789")
    with pytest.raises(InvalidOption, match="names no environment variable that is set") as refused:
        read_secret(name, argument="api_key_env")
    assert name not in str(refused.value)
    assert ("Did you mean 'OPENAI_API_KEY'?" in str(refused.value)) == (name == "OPENAI_API_KEYS")
    assert read_secret(name, argument="api_key_env", default=name) == ""


@pytest.mark.parametrize(
    "key", ["sk-a\nsk-b", "sk-a\rb", "sk-a b", "sk-a\tb", "sk-a\x7fb", "sk-\x1b[0m", "schlüssel", "sk-\udcff"]
)
def test_a_key_that_no_header_can_hold_is_refused_unseen(key, monkeypatch):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(InvalidOption, match=r"the key in \$SOME_KEY has characters that no HTTP header") as refused:
        read_secret("SOME_KEY", argument="api_key_env")
    assert "sk-" not in str(refused.value)
    assert "schl" not in str(refused.value)
    monkeypatch.setenv("SOME_KEY", "\n")
    assert read_secret("SOME_KEY", argument="api_key_env") == ""
    monkeypatch.setenv("SOME_KEY", " sk-proj-0123456789\r\n")
    assert read_secret("SOME_KEY", argument="api_key_env") == "sk-proj-0123456789"


def test_headers(monkeypatch):
    headers = {"Authorization": "Bearer hunter22222", "X-Api-Key": "hunter33333", "User-Agent": "hunter44444"}
    assert check_headers(headers) == headers
    assert redact("hunter22222 hunter33333 hunter44444") == "[key] [key] hunter44444"
    for name, value in (("A", "x\ny"), ("A", "x\x00"), ("A", "ü"), ("A", b"x"), ("A b", "x"), ("", "x"), ("A\n", "x")):
        with pytest.raises(InvalidOption) as refused:
            check_headers({name: value})
        assert repr(value) not in str(refused.value)
    monkeypatch.setenv("SOME_TOKEN", "")
    with pytest.raises(InvalidOption, match="is empty"):
        bearer_header("SOME_TOKEN")


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "hunter2"},
        {"a": {"b": [{"Authorization": "x"}]}},
        {"a": [["Bearer abcdefghijkl"]]},
        {"extra": {"note": "my sk-proj-" + "Ab1" * 10}},
        {"a": "known-key-1"},
        {"a": {"known-key-1": 1}},
        {"a": r"\u006bnown-key-1"},
    ],
)
def test_settings_with_secrets_are_refused_unseen(settings, monkeypatch):
    know("known-key-1", monkeypatch)
    with pytest.raises(InvalidOption, match="secret") as refused:
        check_no_secrets(settings)
    assert not any(part in str(refused.value) for part in ("hunter2", "abcdefgh", "Ab1", "known-key"))


def test_settings_without_secrets():
    check_no_secrets(
        {
            "max_tokens": 5,
            "pad_token": 0,
            "api_key_env": "MY_KEY",
            "data_dir": "/home/sk-learn-classification-data-of-2024",
            "tokenizer": {"eos_token_id": [1, 2], "key": None, "text": "The bearer is at the door."},
        }
    )


# -- where they are taken out ---------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_form_of_a_key_is_redacted(key, monkeypatch):
    know(key, monkeypatch)
    for name, form in encodings(key).items():
        for around in ("{}", '{{"error": "{}"}}', "<p>\n\\n{}</p>", "Header value: b'Bearer {}'", "q=%20{}&x"):
            text = around.format(form)
            cleaned = redact(text)
            assert "[key]" in cleaned, (name, text)
            assert found_in(cleaned.encode(), key) == [], (name, text)
            before, _, after = around.replace("{{", "{").replace("}}", "}").partition("{}")
            assert "base64" in name or cleaned == f"{before}[key]{after}"


@pytest.mark.parametrize("key", ["x", "abc", "EMPTY", "Ollama", "not-needed", "sk-no-key-required"])
def test_what_is_no_secret_is_left_alone(key, monkeypatch):
    assert know(key, monkeypatch) == key
    assert redact(f"The {key} is {key}.") == f"The {key} is {key}."


def test_a_short_key_is_not_looked_for_within_words(monkeypatch):
    know("shelf", monkeypatch)
    assert redact("bookshelf shelf1 shelf. \\nshelf shelves") == "bookshelf shelf1 [key]. \\n[key] shelves"


def test_several_keys(monkeypatch):
    for key in ("hunter2222", "hunter2222-long", "hunter2222"):
        know(key, monkeypatch)
    assert redact("hunter2222-long hunter2222") == "[key] [key]"
    assert redact_all({"hunter2222": ["hunter2222", {"a": "x hunter2222"}, 5, None]}) == {
        "[key]": ["[key]", {"a": "x [key]"}, 5, None]
    }


@given(st.text(), st.text())
def test_other_text_is_left_alone(before, after):
    secrets._add("sk-proj-Ab12_Cd34-Ef56")
    text = f"{before} {after}"
    assert redact(text) == text
    assert redact(f"{before}\u2028sk-proj-Ab12_Cd34-Ef56 {after}") == f"{before}\u2028[key] {after}"


@pytest.mark.parametrize("piece", ["\\", "%25", "&amp;", "&#000", "k", "\\u006", "k/+=", "[key]"])
def test_a_hostile_text_takes_no_time(piece, monkeypatch):
    know(KEYS["with everything"], monkeypatch)
    text = piece * (100_000 // len(piece)) + "\\"
    began = time.process_time()
    assert redact(text) == text
    assert time.process_time() - began < 2


# -- servers that repeat them ---------------------------------------------------------------------


KEY = "token/of+Some-Length=1"


@pytest.mark.parametrize("form", encodings(KEY).values(), ids=encodings(KEY))
def test_a_retrieval_server_that_repeats_its_token(form, monkeypatch):
    monkeypatch.setenv("SEARCH_TOKEN", KEY)

    def respond(body):
        if body.get("queries") == ["fail"]:
            return 404, f'no "{form}"'.encode()
        if body.get("queries") == ["retry"]:
            return 503, {"detail": form}
        if body.get("queries") == ["nonsense"]:
            return 200, {"result": [[{"document": {form: form}}]]}
        return 200, {"result": [[{"document": {"id": form, "contents": f"Your token is {form}."}, "score": 1}]]}

    with Server(respond=respond, health=(200, {"engine": form})) as server:
        retriever = HttpRetriever(server.url, token_env="SEARCH_TOKEN", retries=1, deadline=5)
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        texts = [repr(retriever.search(["river"], 1)), retriever.fingerprint]
        for query in ("fail", "retry", "nonsense"):
            with pytest.raises(RetrievalFailed) as failed:
                retriever.search([query], 1)
            texts.append(str(failed.value))
        assert all("[key]" in text for text in texts)
        assert found_in("\n".join(texts).encode(), KEY) == []
        secrets._known, secrets._patterns = (), None  # as in another process
        copy = pickle.loads(pickle.dumps(retriever))
        assert found_in(repr(copy.search(["river"], 1)).encode(), KEY) == []
        retriever.close()
        copy.close()


def test_messages_of_the_transport(monkeypatch):
    know(KEY, monkeypatch)
    response = Response("http://h/", 404, f"No {KEY}", {}, f"{'x' * 190} {KEY}".encode())
    assert found_in(response.describe().encode(), KEY[:8]) == []
    assert str(NoResponse(f"http://h/{KEY} gives no answer")) == "http://h/[key] gives no answer"
    with pytest.raises(InvalidOption):
        Transport("http://127.0.0.1:9/", headers={"Authorization": "Bearer a\nb"})
    with pytest.raises(InvalidOption, match="holds a key") as refused:
        HttpRetriever("http://127.0.0.1:9/retrieve?topk=3&api_key=hunter2")
    assert "hunter2" not in str(refused.value)
    assert json.loads(json.dumps(redact_all({"a": KEY}))) == {"a": "[key]"}


@pytest.mark.parametrize(
    "settings",
    [
        {"apikey": "hunter2pw"},
        {"accessToken": "hunter2pw"},
        {"headers": {"Authorization": ["Basic hunter2pw"]}},
        {"url": "http://user:hunter2pw@host/"},
        {"proxies": [{"all": "socks5://user:hunter2pw@host:1080"}]},
    ],
)
def test_secrets_in_lists_addresses_and_joined_names_are_refused(settings):
    with pytest.raises(InvalidOption, match=r"looks like a secret") as caught:
        check_no_secrets({"extra_body": settings})
    assert "hunter2pw" not in str(caught.value)


def test_numbers_of_tokens_and_plain_addresses_are_no_secrets():
    check_no_secrets({"pad_token": 0, "stop_token": [1, 2], "url": "http://host:8000/v1/@me", "keys": ["a"]})

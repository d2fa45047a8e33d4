import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.control_tokens import break_control_tokens, is_control_token
from sdar_envs.prompt import STYLES, render_messages

TOKENS = [
    "<|im_start|>",
    "<|start_header_id|>",
    "<|turn>",
    "<turn|>",
    "<\uff5cUser\uff5c>",
    "<s>",
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<tool_call>",
    "</tool_call>",
    "<minimax:tool_call>",
    "<arg_key>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<fim_prefix>",
    "<unused12>",
]


@pytest.mark.parametrize("token", TOKENS)
def test_a_control_token_is_broken_up_and_readable(token):
    assert is_control_token(token)
    assert break_control_tokens(f"a{token}b") == f"a{token[0]} {token[1:]}b"


@given(st.lists(st.text() | st.sampled_from([*TOKENS, "<", "<s", "|>", "<<s>s>"])).map("".join))
def test_no_control_token_is_left_and_nothing_but_spaces_is_added(text):
    broken = break_control_tokens(text)
    assert not any(token in broken for token in TOKENS)
    assert broken.replace(" ", "") == text.replace(" ", "")
    assert break_control_tokens(broken) == broken


def test_the_words_of_prompts_are_no_control_tokens():
    for style in STYLES.values():
        page = "WebShop [SEP] < Prev [SEP] search[<your query>] <information>Doc 1</information> a < b | c > d"
        (message,) = render_messages(style, "a hat", [], page, ["click[< prev]"])
        assert break_control_tokens(message["content"]) == message["content"]

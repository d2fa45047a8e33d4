"""The one-file loop of `examples/grpo_loop.py`: it runs, and its losses are those of the trainer."""

import random

import grpo_loop
import pytest
import torch
from helpers.tiny_models import tiny_policy

from sdar_agents.algorithms.advantages import group_advantages
from sdar_agents.algorithms.losses import distillation_loss, policy_loss, sdar_gate


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    policy = tiny_policy()
    folder = tmp_path_factory.mktemp("model")
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["grpo", "sdar"])
def test_it_trains_and_evaluates(model, method):
    sizes = ["--steps", "1", "--tasks", "1", "--group-size", "2", "--test-tasks", "1", "--max-new-tokens", "4"]
    first, last = grpo_loop.train(
        grpo_loop.parse(["--model", str(model), "--method", method, "--tiny", *sizes, "--device", "cpu"])
    )
    assert {"test", "train", "policy", "distill"} <= first.keys()
    assert last.keys() == {"step", "test"}
    # Nobody wins, so all advantages are 0, and only the teacher can move the model.
    assert first["policy"] == 0
    assert (first["distill"] != 0) == (method == "sdar")


def test_its_losses_are_those_of_the_trainer():
    torch.manual_seed(0)
    student, teacher = -torch.rand(4, 5, requires_grad=True), -torch.rand(4, 5)
    advantages = torch.randn(4)
    ours = policy_loss(student, student.detach(), advantages[:, None].expand(4, 5)).losses
    torch.testing.assert_close(grpo_loop.policy_loss(student, advantages), ours)
    gap = teacher - student
    theirs = grpo_loop.sdar_loss(student, teacher, 5.0)
    torch.testing.assert_close(theirs, distillation_loss(gap, sdar_gate(gap, 5.0)))
    [gradient] = torch.autograd.grad(theirs.sum(), student, retain_graph=True)
    torch.testing.assert_close(gradient, -torch.sigmoid(5.0 * gap.detach()))


def test_its_advantages_are_those_of_the_trainer():
    returns = [0.0, 10.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0]
    ours = group_advantages(
        torch.tensor(returns), torch.arange(8) // 4, torch.arange(8), stats="episode", zero_range=0.0
    )
    torch.testing.assert_close(torch.tensor(grpo_loop.group_advantages(returns, 4)), ours.float())


def test_its_log_probabilities_do_not_depend_on_padding():
    model, draw = tiny_policy().model, random.Random(1)
    prompts = [[draw.randrange(1, 60) for _ in range(n)] for n in (3, 7, 1)]
    completions = [[draw.randrange(1, 60) for _ in range(n)] for n in (4, 2, 5)]
    logprobs, mask = grpo_loop.completion_logprobs(model, prompts, completions)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        alone = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = alone.gather(1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(logprobs[row][mask[row] == 1], wanted)

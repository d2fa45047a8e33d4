"""GRPO and SDAR in one file: rollout, advantages, gate, update and evaluation.

    python examples/grpo_loop.py --model MODEL --method sdar --steps 20

MODEL is a folder with a chat model and its tokenizer in the format of transformers, or a name on the Hugging Face hub.
`sdar quickstart` leaves a tiny one in `runs/tiny/seed-0/sft/model`; with it, add `--tiny`.

The student reads the task and plays; the teacher is the same model with skills in its prompt, and scores the student's
tokens. Each step plays every task `group_size` times and takes one optimiser step on

    L = - mean_t A_t rho_t  +  coef * mean_t sigmoid(beta (T_t - S_t)) (T_t - S_t)

where A is the return normalised within the group (GRPO, arXiv 2402.03300), rho the probability ratio to the sampling
policy (1 here, since there is one update per rollout, so PPO's clip never acts), S and T the student's and the
teacher's log-probabilities of the sampled token, and the sigmoid is SDAR's gate, through which no gradient flows
(arXiv 2605.15155). `--method grpo` leaves the second term out.

Left out, and found in `sdar train`: the KL penalty and the reference model, several updates per rollout, the penalty
for malformed completions, bfloat16 and LoRA, token budgets, bandits over skills, checkpoints and resuming.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sdar_agents.engines import ChatTemplate
from sdar_envs import Task, TextEnv, Turn, make_text_env, parse_completion, prompt_parts, style_of
from sdar_envs.prompt import terse
from sdar_envs.registry import sample_tasks
from sdar_skills import Library, Retriever, make_retriever, teacher_context


@dataclass
class Row:
    """One turn of an episode as training data: token ids of both prompts and of the completion."""

    prompt: list[int]
    teacher_prompt: list[int]
    completion: list[int]
    advantage: float = 0.0


@dataclass
class Episode:
    """One episode in play, and its rows afterwards."""

    env: TextEnv
    observation: str
    info: dict
    history: list[Turn] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    episode_return: float = 0.0
    done: bool = False


class Player:
    """Plays episodes in lockstep with one model, and writes the teacher's prompts beside the student's."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, retriever: Retriever, args) -> None:
        self.model, self.tokenizer, self.retriever, self.args = model, tokenizer, retriever, args
        self.template = ChatTemplate(tokenizer)
        self.draw = random.Random(args.seed)

    def encode(self, messages: list[dict[str, str]]) -> list[int]:
        """Return the token ids of chat messages, with the opening of the model's turn."""
        return list(self.template.encode(self.template.render(messages)))

    def prompts(self, episode: Episode) -> tuple[list[int], list[int]]:
        """Return the student's prompt and the teacher's, which holds the skills of the task."""
        task, info = episode.env.task, episode.info
        style = style_of(episode.env, task)
        parts = prompt_parts(
            terse(style) if self.args.tiny else style,
            info["instruction"],
            episode.history,
            episode.observation,
            info["admissible_commands"],
        )
        skills = self.retriever.retrieve(task, self.args.skills, None, self.draw)
        return self.encode(parts.messages()), self.encode(teacher_context(parts, skills).messages)

    def play(self, tasks: list[Task], *, greedy: bool = False) -> list[Episode]:
        """Play each task to its end and return the episodes, in the order of the tasks."""
        episodes = []
        for task in tasks:
            env = make_text_env(self.args.env, **self.args.env_kwargs)
            episodes.append(Episode(env, *env.reset(options={"task_id": task.id})))
        while running := [episode for episode in episodes if not episode.done]:
            prompts = [self.prompts(episode) for episode in running]
            completions = self.generate([student for student, _ in prompts], greedy=greedy)
            for episode, (student, teacher), completion in zip(running, prompts, completions, strict=True):
                episode.rows.append(Row(student, teacher, completion))
                text = self.tokenizer.decode(completion, skip_special_tokens=True)
                parsed = parse_completion(
                    text, style_of(episode.env, episode.env.task), prefilled=self.template.prefilled
                )
                episode.history.append(parsed.turn(episode.observation))
                episode.observation, reward, terminated, truncated, episode.info = episode.env.step(parsed.action)
                episode.episode_return += reward
                episode.done = terminated or truncated
        return episodes

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], *, greedy: bool) -> list[list[int]]:
        """Sample a completion of each prompt, the end token included."""
        end, longest = self.tokenizer.eos_token_id, max(map(len, prompts))
        # Left padding: every completion begins in the same column.
        ids = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = self.model.generate(
            ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            max_new_tokens=self.args.max_new_tokens,
            do_sample=not greedy,
            # Nothing but the temperature may shape the distribution that the loss differentiates.
            **({} if greedy else {"temperature": 1.0, "top_p": 1.0, "top_k": 0}),
            eos_token_id=end,
            pad_token_id=end,
        )
        completions = out[:, longest:].tolist()
        return [ids[: ids.index(end) + 1] if end in ids else ids for ids in completions]


def completion_logprobs(
    model: PreTrainedModel, prompts: list[list[int]], completions: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities `(B, L)` of the completions' tokens in nats, and their mask `(B, L)`."""
    width, length = max(map(len, prompts)), max(map(len, completions))
    ids, mask = torch.zeros(len(prompts), width + length, dtype=torch.long), torch.zeros(len(prompts), width + length)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids[row, width - len(prompt) : width + len(completion)] = torch.tensor(prompt + completion)
        mask[row, width - len(prompt) : width + len(completion)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0).long()
    logits = model(ids, attention_mask=mask, position_ids=positions).logits[:, width - 1 : -1]
    logprobs = logits.float().log_softmax(-1).gather(2, ids[:, width:, None])[..., 0]
    return logprobs, mask[:, width:]


def group_advantages(returns: list[float], group_size: int) -> list[float]:
    """Return each episode's return minus its group's mean, over the group's standard deviation (0 if all are equal)."""
    groups = torch.tensor(returns, dtype=torch.float64).view(-1, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-6)).flatten().tolist()


def policy_loss(student: Tensor, advantages: Tensor) -> Tensor:
    """Return the policy-gradient loss `(B, L)`: minus advantage times ratio, whose value is 1 and gradient grad S."""
    return -advantages[:, None] * torch.exp(student - student.detach())


def sdar_loss(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Return SDAR's distillation loss `(B, L)`: the gap T - S times the gate sigmoid(beta (T - S))."""
    gap = teacher.detach() - student
    return torch.sigmoid(beta * gap).detach() * gap


def update(model: PreTrainedModel, optimizer: torch.optim.Optimizer, rows: list[Row], args) -> dict[str, float]:
    """Take one optimiser step on the rows, with gradient accumulation over micro-batches; return the mean losses."""
    tokens = sum(len(row.completion) for row in rows)
    means = {"policy": 0.0, "distill": 0.0}
    optimizer.zero_grad()
    for start in range(0, len(rows), args.micro_batch):
        part = rows[start : start + args.micro_batch]
        completions = [row.completion for row in part]
        student, mask = completion_logprobs(model, [row.prompt for row in part], completions)
        advantages = torch.tensor([row.advantage for row in part], device=student.device)
        # Token mean over the whole step: the gradient does not depend on how rows are cut into micro-batches.
        losses = {"policy": (policy_loss(student, advantages) * mask).sum() / tokens}
        if args.method == "sdar":
            with torch.no_grad():
                teacher, _ = completion_logprobs(model, [row.teacher_prompt for row in part], completions)
            losses["distill"] = args.coef * (sdar_loss(student, teacher, args.beta) * mask).sum() / tokens
        sum(losses.values()).backward()
        for name, loss in losses.items():
            means[name] += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return means


def success(episodes: list[Episode]) -> float:
    """Return the share of episodes that solved their task."""
    return sum(episode.info["is_success"] for episode in episodes) / len(episodes)


def train(args: argparse.Namespace) -> list[dict[str, float]]:
    """Train and return the metrics of each step."""
    torch.manual_seed(args.seed)
    draw = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    model = model.to(args.device).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    player = Player(model, tokenizer, make_retriever(args.retriever, Library.load()), args)
    source = make_text_env(args.env, **args.env_kwargs).source
    panel = sample_tasks(source, args.test_split, args.test_tasks)
    metrics = []
    for step in range(args.steps + 1):
        row = {"step": step}
        if step % args.test_every == 0 or step == args.steps:
            row["test"] = success(player.play(panel, greedy=True))
        if step < args.steps:
            size = source.splits[args.split] or 2**31
            tasks = [source.task(args.split, draw.randrange(size)) for _ in range(args.tasks)]
            episodes = player.play([task for task in tasks for _ in range(args.group_size)])
            returns = [episode.episode_return for episode in episodes]
            for episode, advantage in zip(episodes, group_advantages(returns, args.group_size), strict=True):
                for turn in episode.rows:
                    turn.advantage = advantage
            row["train"] = success(episodes)
            row |= update(model, optimizer, [turn for episode in episodes for turn in episode.rows], args)
        metrics.append(row)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    return metrics


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="GRPO and SDAR on text environments, in one file.")
    parser.add_argument("--model", required=True, help="a folder, or a name on the Hugging Face hub")
    parser.add_argument("--method", choices=["grpo", "sdar"], default="sdar")
    parser.add_argument("--env", default="sdar/ALFWorld-v0")
    parser.add_argument("--tiny", action="store_true", help="of `sdar quickstart`: one room, short prompts")
    parser.add_argument("--split", help="tasks to train on (default: train)")
    parser.add_argument("--test-split", default="valid_seen")
    parser.add_argument("--test-tasks", type=int, default=32)
    parser.add_argument("--test-every", type=int, default=5)
    parser.add_argument("--retriever", help="strategy that chooses the teacher's skills (default: task_type)")
    parser.add_argument("--skills", type=int, help="skills in the teacher's prompt (default: 6)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=8, help="tasks in a step")
    parser.add_argument("--group-size", type=int, default=8, help="episodes of each task")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=16, help="rows in a forward pass")
    parser.add_argument("--lr", type=float, default=1e-6)
    parser.add_argument("--coef", type=float, default=0.01, help="weight of SDAR's loss")
    parser.add_argument("--beta", type=float, default=5.0, help="steepness of SDAR's gate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    args.env_kwargs = {"rooms": "small", "max_steps": 12} if args.tiny else {}
    args.split = args.split or ("home" if args.tiny else "train")
    args.retriever = args.retriever or ("home" if args.tiny else "task_type")
    args.skills = args.skills or (1 if args.tiny else 6)
    return args


if __name__ == "__main__":
    train(parse())

"""GRPO by TRL on one of the suites, with tools or by whole rollouts.

    python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --suite webshop
    python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --suite alfworld --rollouts

It needs `pip install '.[trl]'`; docs/plugs/trl.md explains the settings.
"""

from __future__ import annotations

import argparse

import torch
from trl import GRPOConfig, GRPOTrainer

from sdar_envs.integrations import trl as plug

SUITES = {
    "alfworld": ("sdar/ALFWorld-v0", plug.ALFWorldTools, 50),
    "webshop": ("sdar/WebShop-v0", plug.WebShopTools, 15),
    "search_qa": ("sdar/SearchQA-v0", plug.SearchQATools, 8),
}


def train(argv: list[str] | None = None) -> GRPOTrainer:
    parser = argparse.ArgumentParser(description="GRPO by TRL on a text environment.")
    parser.add_argument("--model", required=True, help="a folder, or a name on the Hugging Face hub")
    parser.add_argument("--suite", choices=SUITES, default="alfworld")
    parser.add_argument("--rollouts", action="store_true", help="whole episodes as chat instead of tools")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of the split train")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--group-size", type=int, default=8, help="episodes of each task")
    parser.add_argument("--episode-tokens", type=int, default=8192, help="what the environment says included")
    parser.add_argument("--out", default="runs/trl")
    args = parser.parse_args(argv)
    env_id, tools, turns = SUITES[args.suite]
    config = GRPOConfig(
        output_dir=args.out,
        max_steps=args.steps,
        num_generations=args.group_size,
        per_device_train_batch_size=args.group_size,
        max_completion_length=args.episode_tokens,
        max_tool_calling_iterations=turns,
        logging_steps=1,
        report_to="none",
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    dataset = plug.make_dataset(env_id, split="train", limit=args.tasks, for_rollouts=args.rollouts)
    if args.rollouts:
        way = {"rollout_func": plug.EpisodeRollouts(env_id), "reward_funcs": plug.episode_return}
    else:
        way = {"environment_factory": tools}
    trainer = GRPOTrainer(model=args.model, args=config, train_dataset=dataset, **way)
    trainer.train()
    return trainer


if __name__ == "__main__":
    train()

"""One of several processes that take one optimiser step together; run by test_ranks.py."""

import os
import sys

import torch
from helpers.tiny_models import random_rows, scored_batch, tiny_model

from sdar_agents.algorithms import make_algorithm
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.metrics import merge_metrics, reduce_metrics, summarise


def main(folder: str, mode: str, rank: int, world: int) -> None:
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
        )
    rows = random_rows(8)
    batch = scored_batch(rows)
    # Whole episodes for each; a third rank gets a row without a response, which is no token.
    mine = {1: [range(8)], 2: [range(6), range(6, 8)], 3: [range(6), range(6, 8), range(2, 3)]}[world][rank]
    algorithm = make_algorithm("sdar", suite="alfworld", distill_coef=0.5, aggregation=mode, response_limit=16)
    weighed = batch.select(mine).weighed(algorithm.aggregation, response_limit=algorithm.response_limit)
    model = tiny_model()
    outputs = []
    for piece in weighed.split(60):
        outputs.append(algorithm.loss(piece, score(model, piece.student, piece.mask)))
        outputs[-1].loss.backward()
    for parameter in model.parameters():
        if world > 1:
            torch.distributed.all_reduce(parameter.grad)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    summary = summarise(reduce_metrics(merge_metrics(output.metrics for output in outputs)))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    torch.save({"norm": norm, "weights": weights, "summary": summary}, f"{folder}/{world}-{rank}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

"""Evaluation and benchmarks: the command `sdar`, run folders, statistics, reports, leaderboard, throughput.

Folders, each importing only from those before it:

- `records`: run folders on disk;
- `analysis`: statistics, summaries, comparisons;
- `evaluation`: agents play panels of tasks (`evaluation.evaluate.evaluate`); `reports`: HTML reports and the viewer;
- `leaderboard`, `studies`, `throughput`;
- `cli`: one module for each verb.
"""

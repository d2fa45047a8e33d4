"""Leaderboard: results as JSON records in a folder, the actions behind them, and the Markdown tables made of them.

Any folder can hold a leaderboard. Its layout:

    LEADERBOARD.md             the tables, written by `tables.render`
    results/*.json             the records; benchmarks/results/*.json if the folder has benchmarks/results
    results/*.actions.jsonl.gz beside a record: the actions of its episodes, which `verifying.verify` plays again
    README.md                  optional: a short table goes between two marked lines, if it has them

A record is one agent on one panel of tasks, with everything that is needed to play it again.
"""

"""Maker of the embedded Search-QA corpus and questions: facts from pinned packages, in our own words.

`extract` takes the facts from the packages, `generate` writes the corpus and the questions, `checks` validates them.
It is not part of the wheel: from a checkout, run `python -m data_makers.search_qa_facts.generate` (after `make setup`,
or with `PYTHONPATH=benchmarks`). Equal facts give equal files, whose digests `sdar_envs.search_qa.embedded` pins.
"""

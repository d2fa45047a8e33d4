"""Maker of what the package ships of the invented Search-QA world: words that it must not use, and verdicts of filters.

The world itself is made by `sdar_envs.search_qa.invented`, on the user's machine. `refused_words` lists the words of
its grammar that exist, `verdicts` runs the filters of the named levels and prints what each leaves.
"""

"""Makers of the documentation's generated pages: each function returns the Markdown of a page, made from the code.

`hook` gives the pages to MkDocs. No page is written into the repository, so none can be out of date.
"""

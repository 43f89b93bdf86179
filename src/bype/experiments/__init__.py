"""The paper's experiments and ours.

Each experiment is a file of `catalog`, made of the parts in `cell`. `campaign` runs cells in pieces, `ledger` keeps
their results as files, and `page` is made of those.
"""

"""The paper's experiments and ours.

What they are (`cells`), running them in pieces (`campaign`), their results as files (`ledger`), the page made of those
(`render`).
"""

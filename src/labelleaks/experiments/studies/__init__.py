"""Analyses beside the attack rows: what a grid measures that has no AUC of one attack at one budget.

A study is a stage of its own, done once, and leaves one small JSON file in ``studies/`` beside ``results/``: a list
whose first entry, the head, says which world and what came out, and whose others are the points of its figure.
"""

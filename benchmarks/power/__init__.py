"""How much each attack finds at equal cost: data sets x targets x attacks x seeds, one command, results as small JSON.

``python -m benchmarks.power`` runs what is missing; README.md beside this file is made from ``results/`` alone.
"""

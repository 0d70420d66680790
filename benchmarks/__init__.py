"""Measurements anyone can repeat: ``make bench``. Results, as JSON and Markdown, are in ``benchmarks/results``."""

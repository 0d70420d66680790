"""Experiment grids: a paper's tables from specs, stage by stage, each stage done once.

``reproductions/label-leaks`` holds a grid as data (profiles), the findings of the paper as checkable statements
(expected.yaml), the measured rows (results) and the pages made of them. A stage is named by a hash of everything that
goes into it, so what is finished is never done again, a killed run goes on, and another row costs only itself.
"""

from __future__ import annotations

from labelleaks.experiments.page import write_page
from labelleaks.experiments.runner import GridPlan, plan, run
from labelleaks.experiments.spec import Grid, Reproduction, load_reproduction

__all__ = ["Grid", "GridPlan", "Reproduction", "load_reproduction", "plan", "run", "write_page"]

"""Classifiers behind an HTTP API: Open Inference Protocol v2, TensorFlow Serving, MLflow, or a user's own template."""

from __future__ import annotations

from labelleaks.targets.http.options import PROTOCOLS, Http, is_url
from labelleaks.targets.http.target import HttpTarget

__all__ = ["PROTOCOLS", "Http", "HttpTarget", "is_url"]

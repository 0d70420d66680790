"""A model of MLflow that answers the scores of an ONNX file for images; runs in the server's own environment."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import onnxruntime


class Pictures(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self._session = onnxruntime.InferenceSession(context.artifacts["network"])

    # Without type hints, which MLflow would take for a schema.
    def predict(self, context: Any, model_input, params=None):
        return self._session.run(["scores"], {"x": np.asarray(model_input, np.float32)})[0]


mlflow.models.set_model(Pictures())

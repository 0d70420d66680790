"""Run inside a server's own environment: fit a classifier on the digits and save it as that server wants it.

``python train.py mlserver|mlflow FOLDER`` leaves the model and ``truth.npz`` (rows, and the labels that it gives them).
``python train.py pictures FOLDER`` makes a model of MLflow, which takes images, of the ``pictures.onnx`` that is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def pictures(folder: Path) -> None:
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, 1, 8, 8))]), outputs=Schema([TensorSpec(float32, (-1, 10))])
    )
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        python_model=str(Path(__file__).parent / "pictures.py"),
        artifacts={"network": str(folder / "pictures.onnx")},
        signature=signature,
    )


def main(server: str, folder: Path) -> None:
    if server == "pictures":
        pictures(folder)
        return
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    model = LogisticRegression(max_iter=300).fit(x[:600], y[:600])
    np.savez(folder / "truth.npz", x=x[:300], y=y[:300], labels=model.predict(x[:300]))
    if server == "mlflow":
        import mlflow.sklearn

        mlflow.sklearn.save_model(model, str(folder / "model"))
        return
    import joblib

    joblib.dump(model, folder / "model.joblib")
    settings = {
        "name": "digits",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

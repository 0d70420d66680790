"""Run inside a server's own environment: fit a classifier on the digits and save it as that server wants it.

``python train.py mlserver|mlflow FOLDER`` leaves the model and ``truth.npz`` (rows, and the labels that it gives them).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def main(server: str, folder: Path) -> None:
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

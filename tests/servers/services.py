"""Services as their users write them, one module for FastAPI, LitServe and BentoML; run in the server's environment.

A customer has a name for each value, words and gaps; a digit is a list of 64 numbers. Both models are fitted here.
"""

import importlib.util
import sys
from typing import Literal, Optional

import numpy as np
import pandas as pd
from pydantic import BaseModel
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


class Customer(BaseModel):
    age: int
    income: Optional[float] = None  # noqa: UP045  pydantic reads it in Python 3.9, too
    city: Literal["bonn", "oslo", "rome"]


def customers(rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": draw.integers(18, 90, rows),
            "income": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(30_000, 9000, rows).round(2)),
            "city": draw.choice(["bonn", "oslo", "rome"], rows),
        }
    )
    rich = frame["income"].fillna(20_000) > 30_000
    noise = draw.random(rows) < 0.15
    return frame.assign(label=np.where((frame["age"] > 45) ^ (rich & (frame["city"] != "rome")) ^ noise, "yes", "no"))


def fitted() -> object:
    train = customers(120, 0)
    encode = make_column_transformer((OrdinalEncoder(), ["city"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(min_samples_leaf=2, random_state=0))
    return model.fit(train[["age", "income", "city"]], train["label"])


def predicted(model: object, records: list[Customer]) -> list[str]:
    frame = pd.DataFrame([record.model_dump() for record in records]).astype({"income": float})
    return [str(label) for label in model.predict(frame[["age", "income", "city"]])]


def digits() -> LogisticRegression:
    x, y = load_digits(return_X_y=True)
    return LogisticRegression(max_iter=300).fit((x / 16).astype(np.float32)[:600], y[:600])


if importlib.util.find_spec("bentoml"):
    import bentoml

    @bentoml.service(workers=1)
    class Digits:
        def __init__(self) -> None:
            self.model = digits()

        @bentoml.api
        def classify(self, images: np.ndarray) -> np.ndarray:
            return self.model.predict(images)

    @bentoml.service(workers=1)
    class Customers:
        def __init__(self) -> None:
            self.model = fitted()

        @bentoml.api
        def decide(self, frame: pd.DataFrame) -> list[str]:
            return predicted(self.model, [Customer(**row) for row in frame.to_dict("records")])
else:
    import litserve
    from fastapi import FastAPI

    app = FastAPI()
    model = fitted()

    @app.post("/decide")
    def decide(customer: Customer) -> dict[str, str]:
        return {"decision": predicted(model, [customer])[0]}

    @app.post("/decide_all")
    def decide_all(customers: list[Customer]) -> list[str]:
        return predicted(model, customers)

    class Digit(BaseModel):
        image: list[float]

    class DigitsApi(litserve.LitAPI):
        def setup(self, device: str) -> None:
            self.model = digits()

        def decode_request(self, request: Digit) -> np.ndarray:
            return np.array(request.image)

        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.model.predict_proba(x[None])[0]

        def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
            return {"scores": output.tolist()}


if __name__ == "__main__":
    if sys.argv[1] == "customers":
        for name, seed in (("members", 0), ("nonmembers", 1)):
            table = customers(120, seed)
            table.to_csv(f"{name}.csv", index=False)
            table["label"] = fitted().predict(table[["age", "income", "city"]])
            table.to_csv(f"{name}_as_served.csv", index=False)
    else:
        server = litserve.LitServer(DigitsApi(), accelerator="cpu", workers_per_device=1)
        server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)

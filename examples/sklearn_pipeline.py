"""Audit a scikit-learn pipeline on tabular data with string classes, then decide about candidates without any truth.

Run: python examples/sklearn_pipeline.py
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelleaks as ll


def main() -> None:
    data = load_breast_cancer()
    rows = np.random.default_rng(0).permutation(len(data.data))
    x = data.data[rows].astype(np.float32)
    y = np.array(["malignant", "benign"])[data.target[rows]]
    members, nonmembers, shadow = (x[:150], y[:150]), (x[150:300], y[150:300]), (x[300:],)

    target = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0)).fit(*members)
    low, high = x.min(0), x.max(0)
    domain = ll.Box(low - 1e-3 * (high - low), high + 1e-3 * (high - low))

    record = ll.audit(
        target,
        members=members,
        nonmembers=nonmembers,
        shadow=shadow,
        attacks=["gap", "noise", "transfer"],
        domain=domain,
        family=RandomForestClassifier(random_state=0),
        budget=50,
        seed=0,
    )
    for name, result in record.attacks.items():
        print(f"{name:9} AUC {result.auc.value:.3f} ({result.auc.low:.3f} to {result.auc.high:.3f})")
    print(f"{record.ledger.rows} labels, {record.ledger.setup_rows} of them set-up")

    decisions = ll.infer(target, *nonmembers, attack="noise", threshold=ll.FixedFPR(0.1), shadow=shadow, domain=domain)
    print(decisions)


if __name__ == "__main__":
    main()

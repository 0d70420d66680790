"""What is run: attacks by name, at which budgets, on how many candidates, for which adversaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.power import ceilings, rivals
from benchmarks.power.worlds import DATASETS, SEEDS
from labelleaks import attacks as registry
from labelleaks.core.attack import Attack
from labelleaks.models.training import Recipe

__all__ = ["ALL", "FEW", "ROBUSTNESS", "THOUSAND", "AttackRun", "plans"]

ALL = None
THOUSAND = 1000
"""Candidates of each side for 51 to 200 labels."""
HUNDREDS = 500
"""Candidates of each side, of pictures, for attacks that work long on each with their references."""
FEW = 200
"""Candidates of each side above 200 labels: the first ones, so that every comparison is paired."""

DENSE = tuple(f"{dataset}/0" for dataset in ("cifar10", "location30"))
"""Worlds where 2,500 labels are spent; 1,000 elsewhere."""


@dataclass(frozen=True)
class AttackRun:
    """One run of one attack in one world."""

    attack: str
    budget: int
    """Labels that each candidate's account holds."""
    read: tuple[int, ...] = ()
    """Budgets at which an anytime attack is read; (): at its end."""
    most: int | None = ALL
    """Candidates of each side."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the attack's defaults."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """The same, where it says no more than the budget does."""
    references: int = 0
    """Reference models that the attack uses, where the adversary does not say otherwise."""
    adversary: str = ""
    implementation: str = "labelleaks"
    sees: str = "labels"

    @property
    def variant(self) -> str:
        """The settings and the adversary in words."""
        named = [f"{key}={_word(value)}" for key, value in self.settings.items()]
        return ", ".join([*named, *([self.adversary] if self.adversary else [])])

    @property
    def key(self) -> str:
        """The plan as part of a run's name."""
        parts = [self.attack, *([] if self.implementation == "labelleaks" else [self.implementation]), self.variant]
        words = "-".join(part.replace(", ", "-") for part in parts if part)
        return f"{words}-{self.budget}" + (f"-of-{self.most}" if self.most else "")

    @property
    def revision(self) -> int:
        """Of the attack: raised where its code changes its scores, which are then run again."""
        if self.implementation == "posteriors":
            return ceilings.REVISION
        return rivals.REVISION if self.implementation in RIVALS else registry.load(self.attack).revision

    def ready(self) -> bool:
        """Whether this version of labelleaks has the attack."""
        return self.implementation != "labelleaks" or self.sees == "posteriors" or self.attack in registry.names()

    @property
    def recipe(self) -> Recipe | None:
        """How the references are trained; None: as the product does."""
        return Recipe() if self.adversary == LONG else None

    def make(self) -> Attack:
        """Return the configured attack."""
        how = {"recipe": self.recipe} if self.recipe else {}
        return registry.load(self.attack)(**self.settings, **self.own, **how)


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


CEILINGS = ("loss_threshold", "logit", "lira_offline", "rmia", "base", "student_t", "guided_formula")
"""What sees every posterior of the target: upper marks, not rivals."""


def plans(world: str) -> list[AttackRun]:
    """Return everything that is run in a world of the main table, the cheapest first."""
    dataset = world.split("/")[0]
    images = DATASETS[dataset].family == "cnn"
    slow = HUNDREDS if images else ALL
    deep = (200, 500, 1000, 2500) if world in DENSE else (200, 500, 1000)
    found = [
        *(AttackRun(name, 1, references=_references(name), sees="posteriors", implementation="posteriors")
          for name in CEILINGS),
        AttackRun("gap", 1),
        AttackRun("transfer", 1, references=1),
        AttackRun("transfer", 1, references=8, adversary="references=8"),
        AttackRun("guided", 50, read=(1, 2, 5, 10, 20, 50), references=8),
        AttackRun("noise", 50, read=(2, 5, 10, 20, 50)),
        *(AttackRun("oslo", n, references=8, most=slow) for n in (1, 2, 5, 10)),
        AttackRun("yoqo", 1, references=8, most=slow),
        *(AttackRun("dhattack", n, references=8, most=slow, own={"queries": n}) for n in (5, 10, 20, 30, 50)),
        AttackRun("boundary", 50, read=(20, 50)),
        AttackRun("noise", 200, read=(200,), most=THOUSAND),
        AttackRun("dhattack", 200, references=8, most=slow or THOUSAND, own={"queries": 200}),
        AttackRun("boundary", 200, read=(200,), most=THOUSAND),
    ]  # fmt: skip
    if images:
        found += [
            AttackRun("augmentation", 50),
            AttackRun("chameleon", 50, read=(10, 20, 50), references=8, most=slow),
            *(AttackRun("calibrated", budget, references=8, most=slow) for budget in (50, 200)),
        ]
        searches = ("surfree", "rays", "signopt", "tangent")
        settings = [{"search": s} | ({"norm": "linf"} if s == "rays" else {}) for s in searches]
        found += [AttackRun("boundary", 1000, read=deep, settings=one, most=FEW) for one in settings]
    found.append(AttackRun("boundary", deep[-1], read=deep[1:], most=FEW))
    if images:
        found += [AttackRun("boundary", deep[-1], read=deep, most=FEW, implementation=rival) for rival in RIVALS]
    return found if world.split("/")[1] == "0" else [p for p in found if p.implementation not in RIVALS]


RIVALS = ("art", "foolbox")


def _references(ceiling: str) -> int:
    return 0 if ceiling in ("loss_threshold", "logit") else 8


LONG = "training=long"
"""References that are trained for 30 epochs, as the main target is, not until they have learned their rows."""
ROBUST_AGAINST = ("family=cnn3", "family=mlp", "shadow=half", "shadow=third", "shadow=tenth", "shadow=shifted",
                  "relabelled=none", "relabelled=tenth", LONG,
                  "references=2", "references=4", "references=16", "references=32")  # fmt: skip
"""Adversaries that know less, or more, than the one of the main table."""
OF_PICTURES, OF_TABLES = ("family=cnn3", "family=mlp", "shadow=shifted"), ("shadow=third",)
"""Adversaries of one kind of data alone; a third of the shadow rows are as many as the target of Location-30 had."""
ROBUST_TARGETS = ("target=augmented", "target=decayed", "target=stopped")
ROBUST_WORLDS = ("cifar10/0", "location30/0")


def _few_words(adversary: str, attack: str, tabular: bool) -> AttackRun:
    references = int(adversary.removeprefix("references=")) if adversary.startswith("references=") else 8
    most = ALL if tabular else HUNDREDS if attack == "dhattack" else THOUSAND
    if attack == "lira_offline":
        return AttackRun(attack, 1, references=references, adversary=adversary, sees="posteriors",
                    implementation="posteriors", most=most)  # fmt: skip
    own = {"queries": 20} if attack == "dhattack" else {}
    return AttackRun(attack, 20, read=(20,), references=references, adversary=adversary, own=own, most=most)


def ROBUSTNESS() -> Iterator[tuple[str, AttackRun]]:
    """Yield (world, plan) of the robustness tables: guided at 20 labels, DHAttack at 20 and LiRA."""
    for world in ROBUST_WORLDS:
        tabular = DATASETS[world.split("/")[0]].family == "mlp"
        if not tabular:  # the plain adversary on as few candidates; DHAttack stands in the main table as it is
            yield from ((world, _few_words("", attack, tabular)) for attack in ("guided", "lira_offline"))
        for adversary in ROBUST_AGAINST:
            if adversary not in (OF_PICTURES if tabular else OF_TABLES):
                yield from (
                    (world, _few_words(adversary, attack, tabular)) for attack in ("guided", "dhattack", "lira_offline")
                )
        for target in ROBUST_TARGETS:
            if not (tabular and target == "target=augmented"):
                for attack in ("guided", "dhattack", "lira_offline"):
                    yield f"{world}/{target}", _few_words("", attack, tabular)
                yield f"{world}/{target}", AttackRun("gap", 1)


assert SEEDS[0] == 0

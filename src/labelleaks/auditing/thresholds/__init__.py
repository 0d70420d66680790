"""From scores to a threshold: member iff score > tau, and where tau came from.

A rule never looks at the candidates' scores. It gets a :class:`Setting`, runs the same attack at the same budget on
rows of its own, and bills whatever it asks the target to set-up. Which rule needs what:

==================  ================================  =======================================================
rule                needs                             asks the target
==================  ================================  =======================================================
RandomInputs        nothing; a distance attack        one label and one attack for each random input
ShadowCalibrated    shadow rows                       one label for each shadow row (once a run), else nothing
HoldOut             known members and non-members     one attack for each of them
FixedFPR            held-out shadow rows              one attack for each of them
==================  ================================  =======================================================
"""

from __future__ import annotations

from labelleaks.auditing.thresholds.base import Setting, Threshold, ThresholdRule
from labelleaks.auditing.thresholds.fixed_fpr import FixedFPR
from labelleaks.auditing.thresholds.hold_out import HoldOut
from labelleaks.auditing.thresholds.random_inputs import RandomInputs
from labelleaks.auditing.thresholds.shadow_calibrated import ShadowCalibrated

__all__ = [
    "RULES",
    "FixedFPR",
    "HoldOut",
    "RandomInputs",
    "Setting",
    "ShadowCalibrated",
    "Threshold",
    "ThresholdRule",
]

RULES: dict[str, type[RandomInputs] | type[ShadowCalibrated] | type[HoldOut] | type[FixedFPR]] = {
    "random_inputs": RandomInputs,
    "shadow_calibrated": ShadowCalibrated,
    "hold_out": HoldOut,
    "fixed_fpr": FixedFPR,
}
"""Every rule by its name."""

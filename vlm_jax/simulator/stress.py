"""The stress set: what is rare in the operating theatre, at rates that a test can count."""

from __future__ import annotations

from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.findings import EMPTY, FINDINGS

RATES: dict[str, float] = {"breach": 0.5, "leak": 0.3}
"""Complications, a procedure."""

FINDING_RATES: dict[str, dict[str, float]] = {
    "polyps": {EMPTY: 0.1, "grade 1": 0.1, "grade 2": 0.3, "grade 3": 0.5},
    "orbital plate": {"intact": 0.4, "dehiscent": 0.6},
    "anterior artery": {"within its canal": 0.3, "hanging free": 0.7},
    "posterior artery": {"under bone": 0.4, "dehiscent": 0.6},
    "maxillary content": {EMPTY: 0.15, "mucus": 0.15, "pus": 0.2, "fungal debris": 0.35, "a cyst": 0.15},
    "sphenoid content": {EMPTY: 0.2, "mucus": 0.15, "pus": 0.2, "fungal debris": 0.3, "a cyst": 0.15},
    "bleeding concha": {EMPTY: 0.05, "middle concha": 0.95},
    "bleeding turbinate": {EMPTY: 0.1, "inferior concha": 0.9},
}
"""Findings that make an operation hard, a side; the others keep the rates of `findings`."""
BLOOD_SHARE = 0.6
"""Of the reasons for which a view is lost: blood over the lens (else `interludes.REASONS`)."""


def complication_rate(config: SimulatorConfig, name: str) -> float:
    """How often a procedure has this complication (`breach`, `leak`)."""
    rate = {"breach": config.breach_rate, "leak": config.leak_rate}[name]
    return max(rate, RATES[name]) if config.stress else rate


def value_rates(config: SimulatorConfig, finding: str) -> dict[str, float]:
    """Value -> probability (sums to 1) of a finding on a side, in the order of the table."""
    table = {value: probability for value, (probability, _) in FINDINGS[finding].values.items()}
    if config.stress and finding in FINDING_RATES:
        table = {value: FINDING_RATES[finding][value] for value in table}
    total = sum(table.values())
    return {value: probability / total for value, probability in table.items()}

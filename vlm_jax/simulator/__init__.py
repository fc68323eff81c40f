"""The simulator of functional endoscopic sinus surgery: yields the tables, knows nothing of disks or models."""

from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.procedure import dataset_info, make_procedure, procedure_ids

__all__ = ["SimulatorConfig", "dataset_info", "make_procedure", "procedure_ids"]

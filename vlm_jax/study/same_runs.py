"""Finished runs are of the configuration that the study has now: systems are not pooled from two recipes."""

from __future__ import annotations

from etils import epath

from vlm_jax.config import load as config_io
from vlm_jax.errors import UserError
from vlm_jax.study.jobs import at_rate, trial_folder
from vlm_jax.study.plan import Plan
from vlm_jax.study.systems import trials_of
from vlm_jax.training.workdir import CONFIG_FILE

MAY_DIFFER = (
    "parallel.",
    "data.path",  # another place of the same data; `same_data` compares what lies there
    "data.split",  # and of the same folds
    "data.threads",
    "data.prefetch",
    "train.log_every",
    "train.profile_steps",
    "checkpoint.keep_",
    "eval.batch_size",
)


def check_runs(plan: Plan) -> None:
    """UserError where a finished run was trained by another configuration than it would be now; names what differs, and
    the folders of that system and of those that are filled from it."""
    for job in (job for job in plan.jobs() if job.done and job.system.trained):
        now = job.config
        for factor in trials_of(job.study, now):
            file = trial_folder(job, factor) / CONFIG_FILE
            if not file.is_file():
                continue
            then = config_io.read(epath.Path(file))
            keys = [k for k in config_io.diff(then, at_rate(now, factor)) if not k.startswith(MAY_DIFFER)]
            if keys:
                filled = [s for s in plan.systems if s.parent == job.system.name]
                folders = {plan.job(job.variant, s, job.fold, job.seed).folder.parent for s in (job.system, *filled)}
                stale = " and ".join(f"'{folder}'" for folder in sorted(folders))
                raise UserError(
                    f"{job.title} was trained by another configuration ({', '.join(keys)} differ): put back the file "
                    f"that its row names, remove {stale} to train it anew, or give another --workdir"
                )

"""What a study consists of: variants of the data x systems x folds x seeds, each with a folder of its own.

Layout of the work directory:
  study.json                                   the configuration; a resumed study must have the same
  data/<variant>/                              the data sets, where they are simulated
  folds/<variant>/<source>-fold<i>.json        which groups train, validate and test
  folds/<variant>/data.json                    which data and folds the runs are of
  runs/<variant>/<system>/fold<i>-seed<j>/     trial<factor>/ (a work directory of train), eval/test/, summary.json
  table.csv, table.tex, contrasts.json, coverage.json, report.html
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from vlm_jax.config import load as config_io
from vlm_jax.config.schema import Config
from vlm_jax.config.study import StudyConfig
from vlm_jax.evaluation.run import METRICS
from vlm_jax.study.systems import StudySystem, data_config, run_config, slug, study_systems
from vlm_jax.study.variants import Variant, variants_of

RESULTS = Path("eval") / "test"


@dataclass(frozen=True)
class Job:
    """One system trained (or fitted) once and scored on one fold."""

    study: StudyConfig
    variant: Variant
    system: StudySystem
    fold: int
    seed: int
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / RESULTS

    @property
    def done(self) -> bool:
        """metrics.json is written last."""
        return (self.results / METRICS).is_file()

    @property
    def title(self) -> str:
        where = f"{self.variant.name}, " if self.variant.name != "data" else ""
        return f"{self.system.shown} ({where}fold {self.fold}, seed {self.seed})"

    @property
    def config(self) -> Config:
        """The run's configuration on this fold with this seed; of what trains nothing, the one that opens its data."""
        study, system = self.study, self.system
        shared = run_config(study, system.name, system.spec) if system.trained else data_config(study)
        rules = ",".join(f"{source}=list:{file}" for source, file in self.variant.folds[self.fold])
        data = dataclasses.replace(shared.data, path=self.variant.paths, split=rules, group_by=self.study.data.group_by)
        return config_io.from_dict(config_io.to_dict(dataclasses.replace(shared, data=data, seed=self.seed)))


@dataclass(frozen=True)
class Plan:
    """The whole study, in the order in which it is worked off."""

    study: StudyConfig
    workdir: Path
    variants: tuple[Variant, ...]
    systems: tuple[StudySystem, ...]

    def jobs(self) -> list[Job]:
        """Fold by fold, so that early results are of all systems; parents come before their template fillers."""
        return [
            self.job(variant, system, fold, seed)
            for variant in self.variants
            for seed in self.study.seeds
            for fold in range(len(variant.folds))
            for system in self.systems
            if system.trained or system.parent or seed == self.study.seeds[0]
        ]

    def job(self, variant: Variant, system: StudySystem, fold: int, seed: int) -> Job:
        folder = self.workdir / "runs" / slug(variant.name) / system.slug / f"fold{fold}-seed{seed}"
        return Job(self.study, variant, system, fold, seed, folder)

    def parent(self, job: Job) -> Job:
        """The job whose landmarks a template filler reads."""
        parent = next(s for s in self.systems if s.name == job.system.parent)
        return self.job(job.variant, parent, job.fold, job.seed)

    def ready(self, job: Job) -> bool:
        """Whether what the job reads is there."""
        return not job.system.parent or self.parent(job).done


def make_plan(study: StudyConfig, workdir: Path) -> Plan:
    """Simulates or opens the data, divides the folds and checks them.

    Raises:
      UserError: data, systems or folds that cannot be used, or that are not those of earlier runs; a fold that leaks.
    """
    systems = tuple(study_systems(study))
    return Plan(study, workdir, variants_of(study, workdir), systems)

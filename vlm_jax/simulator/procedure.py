"""The simulator's face: settings in, one procedure's tables and frames out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg

from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.errors import UserError
from vlm_jax.simulator import anatomy
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import Seen, describe, write_report
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.render import Camera, Scene, Sight, render, visibility
from vlm_jax.simulator.scene import build_scene, cameras
from vlm_jax.simulator.stations import LAYOUTS
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.workflow import draw_plan

SOURCE = "fess"
REFERENCE_SHARE = 0.5
"""An activity's reference view holds the landmarks that are visible in at least this share of its frames."""

MAX_MOVES = 4


def dataset_info(config: SimulatorConfig) -> DatasetInfo:
    """What is true of the whole data set, with the settings and the simulator's version in `generator`."""
    return DatasetInfo(
        source=SOURCE,
        world="simulated",
        labels=anatomy.NAMES,
        licence="Apache-2.0",
        citation="Simulated functional endoscopic sinus surgery, vlm_jax.simulator; no patient is in it.",
        keywords=tuple(KEYWORDS),
        generator={"name": "vlm_jax.simulator", "version": version(), "config": config.to_json()},
    )


@functools.cache
def version() -> str:
    """sha256 of the simulator's source code: data made by other code is other data."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def procedure_ids(config: SimulatorConfig) -> tuple[str, ...]:
    """Ids in order; they hold the seed, so that data sets of two seeds can be mixed."""
    return tuple(f"{SOURCE}-{config.seed}-{index:05d}" for index in range(config.procedures))


def make_procedure(config: SimulatorConfig, id: str) -> ProcedureBundle:
    """One procedure: a function of the settings and the id alone. Its frames are rendered as they are read.

    Raises:
      UserError: if the id is not one of `procedure_ids(config)`.
    """
    ids = procedure_ids(config)
    if id not in ids:
        raise UserError(f"procedure {id!r} is not of this simulation: ids go from {ids[0]} to {ids[-1]}")
    plan = draw_plan(config, ids.index(id))
    video = f"{id}-v0"
    views = _look(config, plan)
    statements = write_report(config, plan, [view.labels for view in views])
    return ProcedureBundle(
        procedure=Procedure(
            id, f"{id}-patient", SOURCE, f"centre-{plan.centre}", f"surgeon-{plan.surgeon}", plan.sides
        ),
        videos=(Video(id=video, procedure=id, fps=config.fps),),
        activities=tuple(view.row(id, video) for view in views),
        sentences=tuple(
            Sentence(
                id=f"{id}-s{k:03d}",
                procedure=id,
                text=s.text,
                keyword=s.keyword,
                t0=s.activity.t0,
                t1=s.activity.t1,
                status=s.status,
                grounding=s.grounding,
                references=s.references,
            )
            for k, s in enumerate(statements)
        ),
        frames=_frames(config, id, video, views),
    )


def _look(config: SimulatorConfig, plan: Plan) -> list[View]:
    """Every activity's view. An activity ends where the configuration changes: where the next one would read the same,
    the endoscope moves on a little, a few times at most."""
    views: list[View] = []
    for planned in plan.activities:
        view = View(config, plan, planned)
        for attempt in range(MAX_MOVES):
            if not views or view.description != views[-1].description:
                break
            step = stream(config, plan.index, 6, planned.index, attempt).normal(0, 0.15, 2)
            pan = np.clip(np.array(view.activity.pan) + step, -0.3, 0.3)
            view = View(config, plan, replace(planned, pan=(float(pan[0]), float(pan[1]))))
        views.append(view)
    return views


class View:
    """One activity with the truth of all its natural frames, read from id masks before anything is coloured."""

    def __init__(self, config: SimulatorConfig, plan: Plan, activity: PlannedActivity) -> None:
        self.config, self.activity = config, activity
        self.scene: Scene = build_scene(config, plan, activity)
        self.path: list[Camera] = cameras(config, plan, activity)
        self.sight: Sight = visibility(self.scene, self.path)
        often = self.sight.visible.mean(axis=0) >= REFERENCE_SHARE
        self.labels = frozenset(int(n) + 1 for n in np.flatnonzero(often))
        self.description: str = describe(activity, self._seen())

    def row(self, procedure: str, video: str) -> Activity:
        """The activities table's row."""
        a = self.activity
        return Activity(
            id=f"{procedure}-a{a.index:04d}",
            procedure=procedure,
            video=video,
            t0=a.t0,
            t1=a.t1,
            landmarks=tuple(1 if n + 1 in self.labels else 0 for n in range(len(anatomy.LANDMARKS))),
            side=a.side,
            step=STEPS[a.step].code,
            scope=a.scope,
            description=self.description,
        )

    def _seen(self) -> list[Seen]:
        seen = []
        for number in (place.landmark for place in LAYOUTS[self.activity.region]):
            if number in self.labels:
                frames = self.sight.visible[:, number - 1]
                centre = self.sight.centres[frames, number - 1].mean(axis=0)
                share = float(self.sight.share[frames, number - 1].mean())
                seen.append(Seen(number, share, (float(centre[0]), float(centre[1]))))
        return seen

    def kept(self) -> list[int]:
        """Natural frames that are written: thinned evenly about the middle, at least one."""
        c = self.config
        rate = min(1.0, c.frames_per_procedure / (c.activities_per_procedure * c.activity_seconds * c.fps))
        n = self.activity.frames
        keep = n if rate == 1 else max(1, min(n, round(n * rate)))
        return [int((k + 0.5) * n / keep) for k in range(keep)]


def _frames(config: SimulatorConfig, id: str, video: str, views: list[View]) -> Iterator[Frame]:
    for view in views:
        a = view.activity
        for k in view.kept():
            rgb, _ = render(view.scene, view.path[k])
            image = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), config.jpeg_quality, "RGB", "420")
            yield Frame(
                uid=f"{id}-a{a.index:04d}-f{k:04d}",
                procedure=id,
                video=video,
                pts_ms=a.t0 + round(k * 1000 / config.fps),
                activity=f"{id}-a{a.index:04d}",
                assessable=True,
                image=image,
                visible=tuple(1 if v else 0 for v in view.sight.visible[k]),
                fractions=tuple(round(float(f), 5) for f in view.sight.fractions[k]),
            )

"""The simulator's face: settings in, one procedure's tables and frames out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.errors import UserError
from vlm_jax.simulator import anatomy, pictures
from vlm_jax.simulator.camera import Path
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.interludes import draw_interludes
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import Seen, describe, write_report
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.render import Sight, render, visibility
from vlm_jax.simulator.scene import Scene, build_scene, endoscope
from vlm_jax.simulator.stations import LAYOUTS
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.unassessable import render_unassessable
from vlm_jax.simulator.version import code_hash, identity
from vlm_jax.simulator.workflow import draw_plan
from vlm_jax.simulator.worlds import Case, cases, loose_descriptions

SOURCE = "fess"
REFERENCE_SHARE = 0.5
"""An activity's reference view holds the landmarks that are visible in at least this share of its frames."""

REFERENCE_FRAMES = 8
"""Frames of an activity, at most, that its reference view is read from: evenly spread, whatever is written of them."""

MAX_MOVES = 6
"""Tries to find an activity a view that reads otherwise than the one before."""


def dataset_info(config: SimulatorConfig) -> DatasetInfo:
    """What is true of the whole data set, with the settings and the simulator's identity in `generator`."""
    return DatasetInfo(
        source=SOURCE,
        world=", ".join(("simulated", *config.peculiarities)),
        labels=anatomy.NAMES,
        licence="Apache-2.0",
        citation="Simulated functional endoscopic sinus surgery, vlm_jax.simulator; no patient is in it.",
        keywords=tuple(KEYWORDS),
        generator={
            "name": "vlm_jax.simulator",
            "simulator": identity(config),
            "version": code_hash(),
            "config": config.to_json(),
        },
        extras=tuple(name for name, asked in (("mask", config.masks), ("depth", config.depth)) if asked),
    )


def procedure_ids(config: SimulatorConfig) -> tuple[str, ...]:
    """Ids in order; they hold what sets the world apart and the seed, so that data sets of two seeds can be mixed."""
    world = "".join(f"{word}-" for text in config.peculiarities for word in text.split())
    return tuple(f"{SOURCE}-{world}{config.seed}-{index:05d}" for index in range(config.procedures))


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
    shown = cases(config, plan)
    views = look(config, shown)
    statements = write_report(config, plan, [view.labels for view in views], shown)
    loose = [None if case is None else look(config, [case])[0].description for case in loose_descriptions(config, plan)]
    rows = [view.row(id, video) for view in views]
    return ProcedureBundle(
        procedure=Procedure(
            id, f"{id}-patient", SOURCE, f"centre-{plan.centre}", f"surgeon-{plan.surgeon}", plan.sides
        ),
        videos=(Video(id=video, procedure=id, fps=config.fps),),
        activities=tuple(
            row if text is None else replace(row, description=text) for row, text in zip(rows, loose, strict=True)
        ),
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
        frames=_frames(config, id, video, plan, views),
    )


def look(config: SimulatorConfig, shown: Sequence[Case]) -> list[View]:
    """Every activity's view. An activity ends where the configuration changes: where the next one would read the same,
    the endoscope moves on a little, then farther, a few times at most."""
    views: list[View] = []
    for plan, planned in shown:
        view = View(config, plan, planned)
        for attempt in range(MAX_MOVES):
            if not views or view.description != views[-1].description:
                break
            view = View(config, plan, moved_on(config, plan, planned, view.activity, attempt))
        views.append(view)
    return views


def moved_on(
    config: SimulatorConfig, plan: Plan, planned: PlannedActivity, last: PlannedActivity, attempt: int
) -> PlannedActivity:
    """`planned` with the pose of `last` moved on: with every attempt farther."""
    step = stream(config, plan.index, 6, planned.index, attempt).normal(0, 0.15 * (attempt + 1), 2)
    pan = np.clip(np.array(last.pan) + step, -0.3, 0.3)
    return replace(planned, pan=(float(pan[0]), float(pan[1])))


def reference_view(activity: PlannedActivity, sight: Sight) -> tuple[frozenset[int], str]:
    """(labels, description) of an activity of which `sight` shows all frames, or some evenly spread ones."""
    often = sight.visible.mean(axis=0) >= REFERENCE_SHARE
    labels = frozenset(int(n) + 1 for n in np.flatnonzero(often))
    seen = []
    for number in named_in_order(activity.region, labels):
        frames = sight.visible[:, number - 1]
        centre = sight.centres[frames, number - 1].mean(axis=0)
        share = float(sight.share[frames, number - 1].mean())
        seen.append(Seen(number, share, (float(centre[0]), float(centre[1]))))
    return labels, describe(activity, seen)


def named_in_order(region: str, labels: frozenset[int]) -> list[int]:
    """The landmarks of a view in the order of its layout, then others by number."""
    layout = [number for number in LAYOUTS[region] if number in labels]
    return layout + sorted(labels.difference(layout))


def reference_frames(frames: int) -> list[int]:
    """Numbers of the natural frames, of so many, that a reference view is read from."""
    keep = min(frames, REFERENCE_FRAMES)
    return [int((k + 0.5) * frames / keep) for k in range(keep)]


class View:
    """One activity with the truth of its reference frames, read from id masks before anything is coloured."""

    def __init__(self, config: SimulatorConfig, plan: Plan, activity: PlannedActivity) -> None:
        self.config, self.activity = config, activity
        self.scene: Scene = build_scene(config, plan, activity)
        self.path: Path = endoscope(config, plan, activity, self.scene)
        self.sight: Sight = visibility(self.scene, self.path, reference_frames(activity.frames))
        self.labels, self.description = reference_view(activity, self.sight)

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

    def kept(self) -> list[int]:
        """Natural frames that are written: thinned evenly, at least one; a few are taken from the reference frames, so
        that nothing is looked at twice."""
        n, reference = self.activity.frames, reference_frames(self.activity.frames)
        keep = max(1, min(n, round(n * thinning(self.config))))
        if keep <= len(reference):
            return [reference[int((k + 0.5) * len(reference) / keep)] for k in range(keep)]
        return [int((k + 0.5) * n / keep) for k in range(keep)]

    def truth(self, frames: list[int]) -> Sight:
        """What these natural frames show."""
        reference = reference_frames(self.activity.frames)
        if not set(frames) <= set(reference):
            return visibility(self.scene, self.path, frames)
        rows, s = [reference.index(k) for k in frames], self.sight
        return Sight(s.visible[rows], s.fractions[rows], s.share[rows], s.centres[rows])


def thinning(config: SimulatorConfig) -> float:
    """Share of the natural frames that is written (0-1)."""
    natural = config.activities_per_procedure * config.activity_seconds * config.fps
    return min(1.0, config.frames_per_procedure / natural)


def _frames(config: SimulatorConfig, id: str, video: str, plan: Plan, views: list[View]) -> Iterator[Frame]:
    """The frames of a procedure in time: those of each activity, then those of the interludes after it."""
    lost = _lost_frames(config, id, video, plan)
    waiting = next(lost, None)
    shots = [(view, k) for view in views for k in view.kept()]
    seeds = [(config.seed, plan.index, 7, view.activity.index, k) for view, k in shots]
    images = render([(view.scene, view.path, k) for view, k in shots], config.image_size, seeds)
    for view in views:
        a, kept = view.activity, view.kept()
        truth = view.truth(kept)
        for place, (k, image) in enumerate(zip(kept, images, strict=False)):  # the activity's share of all images
            yield Frame(
                uid=f"{id}-a{a.index:04d}-f{k:04d}",
                procedure=id,
                video=video,
                pts_ms=a.t0 + round(k * 1000 / config.fps),
                activity=f"{id}-a{a.index:04d}",
                assessable=True,
                image=pictures.jpeg(image.rgb, config.jpeg_quality),
                visible=tuple(1 if v else 0 for v in truth.visible[place]),
                fractions=tuple(round(float(f), 5) for f in truth.fractions[place]),
                mask=pictures.png(image.ids) if config.masks else None,
                depth=pictures.png(pictures.hundredths(image.depth)) if config.depth else None,
            )
        while waiting is not None and waiting[0] == a.index:
            yield waiting[1]
            waiting = next(lost, None)


def _lost_frames(config: SimulatorConfig, id: str, video: str, plan: Plan) -> Iterator[tuple[int, Frame]]:
    """(activity before it, frame) of the interludes, thinned evenly like all frames; uids name the kind."""
    every = [(item, k) for item in draw_interludes(config, plan) for k in range(item.frames)]
    keep = min(len(every), round(len(every) * thinning(config)))
    nothing = (None,) * len(anatomy.LANDMARKS)
    black = np.zeros((config.image_size, config.image_size), np.uint8)
    for place in range(keep):
        item, k = every[int((place + 0.5) * len(every) / keep)]
        rgb = render_unassessable(
            item.kind, config.image_size, plan.centre, (config.seed, plan.index, 9, item.index, k)
        )
        yield (
            item.after,
            Frame(
                uid=f"{id}-x{item.index:04d}-{item.kind}-f{k:04d}",
                procedure=id,
                video=video,
                pts_ms=item.t0 + round(k * 1000 / config.fps),
                activity=None,
                assessable=False,
                image=pictures.jpeg(rgb, config.jpeg_quality),
                visible=nothing,
                fractions=nothing,
                mask=pictures.png(black) if config.masks else None,
                depth=pictures.png(black.astype(np.uint16)) if config.depth else None,
            ),
        )

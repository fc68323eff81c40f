"""Contact sheets of the simulator (simulated): every view at its steps, every landmark, every nuisance and centre."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from vlm_jax.simulator import SimulatorConfig, anatomy, nuisance, render
from vlm_jax.simulator.centres import CENTRES
from vlm_jax.simulator.scene import build_scene, endoscope
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.version import identity
from vlm_jax.simulator.workflow import draw_plan

SIZE, COLUMNS, PROCEDURES, CANDIDATES = 160, 8, 12, 6
STRIP = 8
"""Views in the strip that README shows, evenly spread over the operation."""


def shoot(config: SimulatorConfig, plan, activity, centre=None, strength=None) -> render.Image:
    """An activity's middle frame, SIZE pixels; `strength`: (nuisance, value) in place of what was drawn."""
    scene = build_scene(config, plan, activity)
    scene = scene if centre is None else replace(scene, centre=centre)
    path = endoscope(config, plan, activity, scene)
    if strength is not None:
        strengths = np.zeros_like(path.strengths)
        strengths[:, nuisance.STRENGTHS.index(strength[0])] = strength[1]
        path = replace(path, strengths=strengths)
    return next(render.render([(scene, path, activity.frames // 2)], SIZE, [(0, activity.index)]))


def picture(*args, **settings) -> np.ndarray:
    """uint8[SIZE, SIZE, 3]; arguments as of `shoot`."""
    return shoot(*args, **settings).rgb


def titled(image: np.ndarray, *lines: str) -> np.ndarray:
    """The image over its caption."""
    band = np.zeros((13 * len(lines) + 4, image.shape[1], 3), np.uint8)
    for k, line in enumerate(lines):
        cv2.putText(band, line, (3, 12 + 13 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([image, band])


def write(tiles: list[np.ndarray], columns: int, title: str, file: Path) -> None:
    """One JPEG of all tiles under a title."""
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    head = titled(np.zeros((0, rows[0].shape[1], 3), np.uint8), title)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.vstack([head, *rows])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def views(config: SimulatorConfig) -> list[np.ndarray]:
    """The first activity of each (region, scope, step, before or after its turn)."""
    found: dict[tuple, tuple] = {}
    for index in range(PROCEDURES):
        plan = draw_plan(config, index)
        for activity in plan.activities:
            key = (activity.step, activity.turned, activity.region, activity.scope)
            found.setdefault(key, (plan, activity))
    tiles = []
    for (step, turned, region, scope), (plan, activity) in tqdm(sorted(found.items()), desc="views", disable=None):
        when = "after" if turned else "before"
        caption = f"{STEPS[step].code} {when} turn, {scope} deg, centre {plan.centre}"
        tiles.append(titled(picture(config, plan, activity), f"{activity.side} {region}", caption))
    return tiles


def landmarks(config: SimulatorConfig) -> list[np.ndarray]:
    """Each landmark where it is largest among the first of its activities, outlined from the id mask."""
    clear = replace(config, instruments=0.0, **dict.fromkeys(nuisance.STRENGTHS, 0.0))
    plans = [draw_plan(clear, index) for index in range(PROCEDURES)]
    tiles = []
    for number, name in enumerate(tqdm(anatomy.NAMES, desc="landmarks", disable=None), 1):
        cases = [(plan, a) for plan in plans for a in plan.activities if number in a.landmarks]
        shots = [shoot(clear, plan, a) for plan, a in cases[:: max(1, len(cases) // CANDIDATES)][:CANDIDATES]]
        best = max(shots, key=lambda shot: int((shot.ids == number).sum()))
        outlines, _ = cv2.findContours((best.ids == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        tiles.append(titled(cv2.drawContours(best.rgb.copy(), outlines, -1, (255, 230, 0), 1), f"{number} {name}"))
    return tiles


def nuisances(config: SimulatorConfig) -> list[np.ndarray]:
    """One view at three strengths of each nuisance, then in each centre."""
    plan = draw_plan(config, 0)
    activity = next(a for a in plan.activities if a.region == "middle meatus" and a.step == 3)
    still = replace(config, instruments=0.0)
    tiles = [
        titled(picture(still, plan, activity, CENTRES[0], (name, value)), f"{name} {value:g}")
        for name in nuisance.STRENGTHS
        for value in (0.0, 0.5, 1.0)
    ]
    held = picture(replace(config, instruments=1.0), plan, activity)
    tiles.append(titled(held, "an instrument"))
    return tiles + [
        titled(picture(still, plan, activity, c, ("noise", 0.2)), f"centre {k}") for k, c in enumerate(CENTRES)
    ]


def main() -> None:
    """Writes the sheets and the strip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the JPEG files are written here")
    folder = parser.parse_args().out
    config = SimulatorConfig()
    title = f"Simulated: vlm_jax simulator {identity(config)}"
    found = views(config)
    write(found, COLUMNS, title, folder / "simulator-views-simulated.jpg")
    write(found[:: len(found) // STRIP][:STRIP], STRIP, title, folder / "simulator-strip-simulated.jpg")
    write(landmarks(config), 5, title, folder / "simulator-landmarks-simulated.jpg")
    write(nuisances(config), 6, title, folder / "simulator-nuisances-simulated.jpg")


if __name__ == "__main__":
    main()

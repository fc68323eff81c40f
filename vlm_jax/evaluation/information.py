"""How much there is to know in the simulator's world: ceilings of the text tasks, entropies, information in bits.

The generator is forked at many states (`simulator.forks`, `simulator.fork_reports`). The states of a procedure are one
line of a file beside the result, so a run that was cut off goes on; the result is summed from the lines.

Each part at each state has a random stream of its own: parts may be measured apart, by any number of threads.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.contract import END
from vlm_jax.data.files import disk_faults, local_path, write_bytes
from vlm_jax.data.progress import Progress
from vlm_jax.errors import UserError
from vlm_jax.evaluation.ceilings import Ceiling, ceiling, entropy_bits
from vlm_jax.evaluation.information_sum import summary
from vlm_jax.evaluation.units import as_scored
from vlm_jax.simulator import anatomy
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.fork_reports import Reports, Turn, turns
from vlm_jax.simulator.forks import FRAMES, Known, Moment, Outcome, Pool, fork_current, fork_next, observe
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.procedure import dataset_info
from vlm_jax.simulator.workflow import draw_plan

PARTS = ("labels", "describe", "anticipate", "report")
"""What can be measured apart; `labels` and `report` take minutes, the others hours."""
Stream = Callable[[str], np.random.Generator]
"""Part -> its random numbers at a state."""
MEASUREMENT = 1
"""Another number where what is measured of the same settings has changed: what was finished before is measured anew."""
PER_PLAN = 10
"""States of each kind that are taken from one procedure."""
FIRST = 500_000
"""States are of procedures from this index on: none is in a data set of the same seed that anyone would make."""


@dataclass(frozen=True)
class Settings:
    """What is measured: `states` of each task, `futures` of each, from `pool` procedures for what looks alike.

    `parts` are some of `PARTS`.
    """

    states: int = 2000
    futures: int = 200
    pool: int = 300
    seed: int = 0
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        for name, low in (("states", 1), ("futures", 4), ("pool", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"--{name} {getattr(self, name)}: give a whole number from {low}")
        for name in self.parts or ("",):
            if name not in PARTS:
                raise UserError(f"--parts {name}: give some of {', '.join(PARTS)}")


def measure(
    config: SimulatorConfig, settings: Settings, out: str | Path, *, workers: int = 1, progress: bool = True
) -> dict[str, Any]:
    """Measures and writes `out` (JSON); the same call again goes on where it was cut off, and what is finished stays.

    Args:
      config: the simulator's.
      settings: what is measured.
      out: a local file.
      workers: threads, a procedure each; the result does not depend on their number.
      progress: says how far it is.

    Raises:
      UserError: `out` is remote, or the lines beside it are of other settings.
      EnvironmentFault: the disk is full.
    """
    path = local_path(out, "--out")
    if path.is_dir() or not path.name:
        raise UserError(f"--out {out} is a folder: give a file, as in --out {path / 'information.json'}")
    head = {
        "measurement": MEASUREMENT,
        "simulator": dataset_info(config).simulator,
        "settings": {**asdict(settings), "parts": list(settings.parts)},
    }
    with disk_faults(path.parent, again="run the same command again; finished states are kept"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and _is_of(path, head | {"config": config.to_json()}):
            print(f"{path} is of these settings: kept", file=sys.stderr)
            return json.loads(path.read_bytes())
        lines = path.with_name(path.name + ".states.jsonl")
        done = _resume(lines, head)
        with Progress("procedure", -(-settings.states // PER_PLAN), "states", progress) as bar:
            for rows in _states(config, settings, len(done), bar, workers):
                done.append(rows)
                with open(lines, "a", encoding="utf-8") as file:
                    file.write(json.dumps(rows) + "\n")
        rows = [row for some in done for row in some]
        result = {**head, "world": dataset_info(config).world, "config": config.to_json(), **summary(rows)}
        write_bytes(path, (json.dumps(result, indent=1) + "\n").encode())
        lines.unlink()
    return result


def _is_of(path: Path, head: dict[str, Any]) -> bool:
    """Whether a finished result is there, of these settings and of this simulator."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return False
    plain = json.loads(json.dumps(head))
    return isinstance(found, dict) and all(found.get(key) == value for key, value in plain.items())


def _resume(lines: Path, head: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The finished procedures' rows; a torn last line is dropped, and the file begins with what it is of."""
    found: list[Any] = []
    for line in lines.read_text(encoding="utf-8").splitlines() if lines.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    if found and found[0] != head:
        raise UserError(f"'{lines}' is of other settings or another simulator: remove it, or choose another --out")
    rows = found[1:]
    write_bytes(lines, "".join(json.dumps(row) + "\n" for row in (head, *rows)).encode())
    return rows


def _states(
    config: SimulatorConfig, settings: Settings, done: int, bar: Progress, workers: int
) -> Iterator[list[dict[str, Any]]]:
    """The rows of one procedure after the other, from the `done`-th on."""
    n_plans = -(-settings.states // PER_PLAN)
    for _ in range(done):
        bar.tick(PER_PLAN)
        bar.step("done before")
    if done == n_plans:
        return
    pool = Pool(config, range(FIRST + n_plans, FIRST + n_plans + settings.pool))
    sample = [turn for plan in _plans(pool)[:50] for turn in turns(config, plan)]
    work = _Work(pool, Reports(config, sample), settings, bar)
    with ThreadPoolExecutor(workers, "procedure") as threads:
        try:
            for rows in threads.map(work.procedure, range(done, n_plans)):
                bar.step(f"{len(rows)} states")
                yield rows
        except BaseException:  # Ctrl-C, too: those under way end at their next state
            work.stopped.set()
            raise


@dataclass
class _Work:
    """What the threads share."""

    pool: Pool
    reports: Reports
    settings: Settings
    bar: Progress

    def __post_init__(self) -> None:
        self.stopped = threading.Event()

    def procedure(self, place: int) -> list[dict[str, Any]]:
        """Some activities and some sentences of one procedure."""
        settings, plan = self.settings, draw_plan(self.pool.config, FIRST + place)
        rng = np.random.default_rng([settings.seed, 2**33, place])
        wanted = min(PER_PLAN, settings.states - place * PER_PLAN)
        told = turns(self.pool.config, plan)
        activities, sentences = (
            sorted(rng.choice(n, min(wanted, n), replace=False).tolist()) for n in (len(plan.activities), len(told))
        )
        parts = [part for part in PARTS[:3] if part in settings.parts]
        rows = []
        for index in activities if parts else ():
            rows.append(_activity(self.pool, Moment(plan, index), settings.futures, parts, self._stream(place, index)))
            self._tick()
        for k in sentences if "report" in settings.parts else ():
            rows.append(_sentence(self.reports, told[k], settings.futures, self._stream(place, k)("report")))
            if not parts:
                self._tick()
        return rows

    def _tick(self) -> None:
        if self.stopped.is_set():
            raise CancelledError
        self.bar.tick()

    def _stream(self, place: int, index: int) -> Stream:
        seed = [self.settings.seed, 2**33, place, index]
        return lambda part: np.random.default_rng([*seed, PARTS.index(part)])


def _plans(pool: Pool) -> list[Any]:
    return list({id(m.plan): m.plan for m in pool.moments}.values())


# --- Activities ------------------------------------------------------------------------------------------------------


def _activity(pool: Pool, moment: Moment, n: int, parts: Sequence[str], stream: Stream) -> dict[str, Any]:
    """One state of describe and anticipate; labels of the next activity given its previous description."""
    config = pool.config
    before = None
    if moment.index:
        before = observe(config, [(moment.plan, moment.plan.activities[moment.index - 1])])[0][1]
    [(labels, text)] = observe(config, [(moment.plan, moment.activity)], before)
    row: dict[str, Any] = {}
    if "labels" in parts:
        row |= {"labels": sorted(labels), **_next_labels(pool, moment, max(4, n // 4), text, stream("labels"))}
    if "describe" in parts:
        rng = stream("describe")
        for known in ("state", "inputs"):
            hands = observe(config, fork_current(moment, known, n, rng), before, FRAMES["describe"])
            row[f"describe_{known}"] = _ceiling(pool, hands, rng)
    if "anticipate" in parts:
        rng = stream("anticipate")
        for known in ("state", "inputs"):
            row[f"anticipate_{known}"] = _ceiling(pool, _next(pool, moment, known, n, text, rng), rng)
    return row


def _next_labels(pool: Pool, moment: Moment, n: int, text: str, rng: np.random.Generator) -> dict[str, Any]:
    """Of `n` activities that could follow this description: how many show each label."""
    after = [o for o in _next(pool, moment, "text", n, text, rng) if o is not None]
    if not after:
        return {}
    sets = list(_counted([tuple(sorted(labels)) for labels, _ in after]).values())
    counts = [sum(k in labels for labels, _ in after) for k in range(1, len(anatomy.NAMES) + 1)]
    return {"next_labels": counts, "next_n": len(after), "next_set_entropy": entropy_bits(sets)}


def _next(
    pool: Pool, moment: Moment, known: Known, n: int, text: str, rng: np.random.Generator
) -> list[Outcome | None]:
    forks = fork_next(pool, moment, known, n, rng)
    seen = iter(observe(pool.config, [f for f in forks if f is not None], text, FRAMES["anticipate"]))
    return [None if fork is None else next(seen) for fork in forks]


def _ceiling(pool: Pool, outcomes: Sequence[Outcome | None], rng: np.random.Generator) -> dict[str, Any]:
    """Of descriptions; where they are not all the scene's, that share of them is of anybody's."""
    texts = [as_scored(END) if o is None else o[1] for o in outcomes]
    loose = [k for k in range(len(texts)) if outcomes[k] is not None and rng.random() >= pool.config.information]
    if loose:
        drawn = [pool.moments[int(rng.integers(len(pool.moments)))] for _ in loose]
        for k, (_, text) in zip(loose, observe(pool.config, [(m.plan, m.activity) for m in drawn]), strict=True):
            texts[k] = text
    return _plain(ceiling([(text, ()) for text in texts]))


# --- Sentences -------------------------------------------------------------------------------------------------------


def _sentence(reports: Reports, turn: Turn, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """One state of report: given the state, image and texts, and texts alone."""
    return {
        "visual": KEYWORDS[turn.statement.keyword][0].finding is not None,
        "report_state": _plain(ceiling(reports.fork_state(turn, n, rng))),
        "report_inputs": _plain(ceiling(reports.fork(turn, True, n, rng))),
        "report_text": _plain(ceiling(reports.fork(turn, False, n, rng))),
    }


def _counted(values: Sequence[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _plain(found: Ceiling) -> dict[str, Any]:
    """A ceiling as JSON: [upper, lower]."""
    return {
        "exact": [found.upper.exact, found.lower.exact],
        "bleu": [found.upper.bleu.tolist(), found.lower.bleu.tolist()],
        "bits": found.entropy,
    }

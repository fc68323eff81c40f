"""How much there is to know in the simulator's worlds, before any model is trained on them.

    python benchmarks/information.py --workdir runs/information

Measures each world part by part, as `vlm-jax data information --parts PART` does, and writes one JSON file, from which
the tables in docs/decisions/simulator-v1.md are made. Parts that the file holds already, of the same simulator and at
least as many states, are not repeated; one that was cut off goes on. The cheap parts come first.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from runs import write_page

from vlm_jax.evaluation.information import Settings, measure
from vlm_jax.parallel.runtime import cores
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.version import identity

WORLDS: dict[str, dict[str, Any]] = {
    "normal": {},  # the others differ in the report alone, or are null by construction: no ray is traced for them
    "information-0.5": {"information": 0.5},
    "information-0": {"information": 0.0},
    "reports_independent": {"world": "reports_independent"},
    "previous_shuffled": {"world": "previous_shuffled"},
}
"""Name of the run -> its settings."""
PARTS = ("labels", "report", "anticipate", "describe")
"""In the order of what they cost."""


def ceilings(results: list[dict[str, Any]]) -> str:
    """Markdown: both ceilings of each task and metric, each as [lower, upper] estimate."""
    lines = ["| world | task | metric | given the state | given the inputs | bits, state | bits, inputs | states |"]
    lines.append("|---" * 8 + "|")
    for result in results:
        for task, found in result["tasks"].items():
            for metric in ("exact", "bleu2") if found["states"] else ():
                cells = [_range(found[metric], f"ceiling_{known}") for known in ("state", "inputs")]
                bits = [_number(found[f"bits_{known}"], 2) for known in ("state", "inputs")]
                lines.append(
                    f"| {result['world']} | {task} | {metric} | {' | '.join(cells + bits)} | {found['states']} |"
                )
    return "\n".join(lines)


def labels(result: dict[str, Any]) -> str:
    """Markdown: entropy of each label, and what the previous description says of it."""
    about, told = result["labels"], result["information"]["previous_description_about_labels"]
    lines = ["| label | share of activities | entropy, bits | previous description about it, bits |", "|---" * 4 + "|"]
    for name, share in sorted(about["prevalence"].items(), key=lambda item: -(item[1] or 0)):
        lines.append(f"| {name} | {share:.1%} | {_number(about['bits'][name], 3)} | {_number(told['bits'][name], 3)} |")
    whole = _number(sum(about["bits"].values()), 2)
    lines.append(f"| sum | | {whole} | {_number(told['sum'], 2)} |")
    lines.append(f"| the set of labels as one | | {_number(about['bits_of_the_set'], 2)} | |")
    lines += ["", f"Over {about['states']} activities, and {told['states']} of them as the previous one."]
    return "\n".join(lines)


def sentences(results: list[dict[str, Any]]) -> str:
    """Markdown: entropy of a report sentence without and with the image, in bits."""
    lines = [
        "| world | sentences | given keyword and context | and the image | the image tells | states |",
        "|---" * 6 + "|",
    ]
    for result in results:
        for kind, cell in result["information"]["scene_about_sentence"].items():
            cells = [_number(cell[key], 2) for key in ("without_image", "with_image", "bits")]
            lines.append(f"| {result['world']} | {kind} | {' | '.join(cells)} | {cell['states']} |")
    return "\n".join(lines)


def _range(cell: dict[str, float], name: str) -> str:
    return f"{_number(cell[f'{name}_low'], 3)} to {_number(cell[name], 3)}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # never -0.00


def figures(results: list[dict[str, Any]]) -> str:
    """The generated part of the page."""
    first, settings = results[0], results[0]["settings"]
    head = (
        f"Simulated; {first['simulator']} and its other worlds; {settings['futures']} futures of each state, moments "
        f"that look alike from {settings['pool']} procedures, seed {settings['seed']}."
    )
    parts = [head, "### Ceilings", ceilings(results)]
    if first["labels"]["states"]:
        parts += [f"### Labels ({first['world']})", labels(first)]
    return "\n\n".join([*parts, "### Report sentences", sentences(results)])


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One world's parts as one result: of each table, that of the part which measured it."""
    whole = dict(parts[0])
    by_name = {name: part for part in parts for name in part["settings"]["parts"]}
    whole["tasks"] = {task: by_name.get(task, parts[0])["tasks"][task] for task in parts[0]["tasks"]}
    whole["labels"] = by_name.get("labels", parts[0])["labels"]
    sources = {"previous_description_about_labels": "labels", "scene_about_sentence": "report"}
    whole["information"] = {table: by_name.get(name, parts[0])["information"][table] for table, name in sources.items()}
    return whole


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="what is under way goes here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/information.json"), help="default: %(default)s")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/decisions/simulator-v1.md"), help="default: %(default)s"
    )
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), metavar="NAME")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help="of the normal world; default: all"
    )
    parser.add_argument("--states", type=int, default=Settings.states, help="of each task (default: %(default)s)")
    parser.add_argument("--futures", type=int, default=Settings.futures, help="of each state (default: %(default)s)")
    parser.add_argument("--pool", type=int, default=Settings.pool, help="procedures (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    plain = {"futures": args.futures, "pool": args.pool, "seed": Settings.seed}
    earlier = json.loads(args.out.read_text()).get("parts", []) if args.out.is_file() else []
    kept = [found for found in earlier if all(found["settings"][key] == value for key, value in plain.items())]
    by_world: dict[str, list[dict[str, Any]]] = {}
    for name, world in WORLDS.items():
        config = SimulatorConfig(**world)
        own = by_world[name] = [found for found in kept if found["simulator"] == identity(config)]
        for part in PARTS if name in args.worlds else ():
            wanted = part in args.parts if name == "normal" else part == "report"
            there = [found for found in own if part in found["settings"]["parts"]]
            if wanted and not any(found["settings"]["states"] >= args.states for found in there):
                print(f"world {name}, {part}", file=sys.stderr, flush=True)
                settings = Settings(args.states, **plain, parts=(part,))
                own[:] = [found for found in own if found not in there]
                own.append(measure(config, settings, args.workdir / f"{name}-{part}.json", workers=cores()))
                write(args, by_world)
    write(args, by_world)
    print(figures([merged(parts) for parts in by_world.values() if parts]))


def write(args: argparse.Namespace, by_world: dict[str, list[dict[str, Any]]]) -> None:
    """The file and the page of what is measured so far."""
    measured = [parts for parts in by_world.values() if parts]
    args.out.write_text(json.dumps({"parts": [found for parts in measured for found in parts]}, indent=1) + "\n")
    write_page(args.page, "information", figures([merged(parts) for parts in measured]))


if __name__ == "__main__":
    main()

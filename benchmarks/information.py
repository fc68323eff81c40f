"""How much there is to know in the simulator's worlds, before any model is trained on them.

    python benchmarks/information.py --workdir runs/information

Runs `vlm-jax data information` for each world; what is finished is not repeated, what was cut off goes on. Writes one
JSON file, from which the study takes ceilings by world, task and metric, and the tables in
docs/decisions/simulator-v1.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from runs import write_page

from vlm_jax.evaluation.information import Settings, measure
from vlm_jax.simulator.config import SimulatorConfig

WORLDS: dict[str, dict[str, Any]] = {
    "normal": {},  # the others differ in the report alone, or are null by construction: no ray is traced for them
    "information-0.5": {"information": 0.5},
    "information-0": {"information": 0.0},
    "reports_independent": {"world": "reports_independent"},
    "previous_shuffled": {"world": "previous_shuffled"},
}
"""Name of the run -> its settings."""


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
    return "-" if value is None else f"{value:.{digits}f}"


def figures(results: list[dict[str, Any]]) -> str:
    """The generated part of the page."""
    first, settings = results[0], results[0]["settings"]
    head = (
        f"Simulated; {first['simulator']} and its other worlds; {settings['states']} states a task, "
        f"{settings['futures']} futures each, moments that look alike from {settings['pool']} procedures, "
        f"seed {settings['seed']}."
    )
    parts = [head, "### Ceilings", ceilings(results)]
    if first["labels"]["states"]:
        parts += [f"### Labels ({first['world']})", labels(first)]
    return "\n\n".join([*parts, "### Report sentences", sentences(results)])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="each world's result goes here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/information.json"), help="default: %(default)s")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/decisions/simulator-v1.md"), help="default: %(default)s"
    )
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), metavar="NAME")
    parser.add_argument("--states", type=int, default=Settings.states, help="of each task (default: %(default)s)")
    parser.add_argument("--futures", type=int, default=Settings.futures, help="of each state (default: %(default)s)")
    parser.add_argument("--pool", type=int, default=Settings.pool, help="procedures (default: %(default)s)")
    parser.add_argument("--report_only", action="store_true", help="of the normal world, too: minutes, not hours")
    return parser.parse_args()


def main() -> None:
    args = parse()
    results = []
    for name in args.worlds:
        tasks = "all" if name == "normal" and not args.report_only else "report"
        settings = Settings(args.states, args.futures, args.pool, tasks=tasks)
        config, file = SimulatorConfig(**WORLDS[name]), args.workdir / f"{name}.json"
        print(f"world {name}", file=sys.stderr, flush=True)
        results.append(read(file, config, settings) or measure(config, settings, file))
    args.out.write_text(json.dumps({"results": results}, indent=1) + "\n")
    write_page(args.page, "information", figures(results))
    print(figures(results))


def read(file: Path, config: SimulatorConfig, settings: Settings) -> dict[str, Any] | None:
    """An earlier result of this simulator and these settings, if there is one."""
    from dataclasses import asdict

    from vlm_jax.simulator.version import identity

    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    return found if (found["simulator"], found["settings"]) == (identity(config), asdict(settings)) else None


if __name__ == "__main__":
    main()

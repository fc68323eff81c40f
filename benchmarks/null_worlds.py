"""What was taken out of the data must not be found, by several training seeds, each alone and all together.

    python benchmarks/null_worlds.py --workdir runs/null_worlds
    python benchmarks/null_worlds.py --workdir runs/levels --preset levels

Each world is a study of its own. `null` (`configs/study.py:null`): where reports are independent of the images `vision`
is asked for (base - no_image, report sentences), where previous descriptions are shuffled `text` (base - no_text,
landmarks), and in the world as it is both: does the same machinery find them where they are? `levels`
(`configs/study.py:levels`): both, with all of what text and image say of one another, half and none. Finished runs are
kept: the same command goes on, and processes with other `--worlds` may share a work directory. Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charts import interval_chart
from runs import vlm_jax, write_page

from vlm_jax.data.store import open_dataset
from vlm_jax.study.systems import slug


@dataclass(frozen=True)
class Preset:
    """A preset of configs/study.py.

    Attributes:
      worlds: variant of the study -> the contrasts that are asked for there.
      size: what its systems' names end in.
      seeds: of training. block: of the page, of its chart and of its file of figures.
    """

    worlds: dict[str, tuple[str, ...]]
    size: str
    seeds: tuple[int, ...]
    block: str


BOTH = ("vision", "text")
PRESETS = {
    "null": Preset(
        {"normal": BOTH, "world=reports_independent": ("vision",), "world=previous_shuffled": ("text",)},
        "@tiny_resnet",
        (0, 1, 2, 3, 4),
        "null_worlds",
    ),
    "levels": Preset(
        {"normal": BOTH, "information=0.5": BOTH, "information=0": BOTH}, "@tiny", (0, 1, 2), "information_levels"
    ),
}
CONTROL = "normal"
"""The world as it is: does the machinery find what is there?"""
SYSTEMS = {"vision": ("base", "no_image"), "text": ("base", "no_text")}
KEPT = (
    "world", "name", "value", "low", "high", "interval", "p", "p_holm", "verdict", "margin", "removed", "not_learned",
)  # fmt: skip


def study(args: argparse.Namespace, variant: str, seeds: list[int]) -> list[dict[str, Any]]:
    """The contrasts of one world, by these training seeds; seeds that were trained before are not trained again."""
    folder = args.workdir / slug(variant)
    preset = PRESETS[args.preset]
    systems = dict.fromkeys(f"{s}{preset.size}" for name in preset.worlds[variant] for s in SYSTEMS[name])
    words = ["--config", f"configs/study.py:{args.preset}", "--workdir", str(folder), f"--config.variants={variant}"]
    words += [f"--config.systems={','.join(systems)}", f"--config.seeds={','.join(map(str, seeds))}"]
    words += [f"--processes={args.processes}", "--config.coverage=0"]
    vlm_jax("study", *words, *(f"--config.{setting}" for setting in args.settings))
    found = json.loads((folder / "contrasts.json").read_text())
    asked = preset.worlds[variant]
    return [{"seeds": seeds} | {key: row[key] for key in KEPT} for row in found if row["name"] in asked]


def tables(rows: list[dict[str, Any]]) -> str:
    """Each contrast of each world, by each seed and by all of them."""
    lines = [
        "| contrast | world | removed | training seeds | difference | by interval | p (Holm, of seven) | verdict |",
        "|" + "---|" * 8,
    ]
    for name, world, found in scopes(rows):
        for r in found:
            about = (name, world, "yes" if r["removed"] else "no", ", ".join(map(str, r["seeds"])))
            values = f"{r['value']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]"
            lines.append(f"| {' | '.join(about)} | {values} | {r['interval']} | {r['p_holm']:.3f} | {r['verdict']} |")
    return "\n".join(lines)


def scopes(rows: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(contrast, world, its rows)."""
    keys = dict.fromkeys((name, row["world"]) for name in SYSTEMS for row in rows if row["name"] == name)
    return [(n, w, [r for r in rows if (r["name"], r["world"]) == (n, w)]) for n, w in keys]


def chart(rows: list[dict[str, Any]]) -> str:
    """Every interval, beside the margin."""
    bands = {
        f"{name}, {world}"[:44]: [(r["value"], r["low"], r["high"]) for r in found]
        for name, world, found in scopes(rows)
    }
    reach = max(abs(r[key]) for r in rows for key in ("low", "high"))
    title = "Gain of vision for reports (BLEU-2) and of text for landmarks (macro-F1), by seed, then all; simulated"
    return interval_chart(bands, title, rows[0]["margin"], max(0.1, round(reach + 0.05, 1)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="null", help="of configs/study.py; default: %(default)s")
    parser.add_argument("--workdir", type=Path, required=True, help="a study a world goes here")
    parser.add_argument("--out", type=Path, help="default: benchmarks/null_worlds.json or information_levels.json")
    parser.add_argument("--page", type=Path, default=Path("docs/results/study.md"), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the preset's, 0 to 4 or 0 to 2")
    parser.add_argument("--control", type=int, nargs="+", help="seeds of the world as it is; default: --seeds")
    parser.add_argument("--worlds", nargs="+", metavar="NAME", help="default: all of the preset")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE", help="of every study")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    args.seeds, args.worlds = args.seeds or list(preset.seeds), args.worlds or list(preset.worlds)
    args.out = args.out or Path(f"benchmarks/{preset.block}.json")
    if unknown := [world for world in args.worlds if world not in preset.worlds]:
        parser.error(f"--worlds: {', '.join(unknown)}: the preset has {', '.join(preset.worlds)}")
    return args


def scopes_of_seeds(args: argparse.Namespace, variant: str) -> list[list[int]]:
    """Each seed alone, then all together."""
    seeds = args.control if args.control and variant == CONTROL else args.seeds
    return [*([seed] for seed in seeds), *([seeds] if len(seeds) > 1 else [])]


def main() -> None:
    args = parse()
    args.workdir.mkdir(parents=True, exist_ok=True)
    rows = [row for v in args.worlds for some in scopes_of_seeds(args, v) for row in study(args, v, some)]
    info = open_dataset(str(args.workdir / slug(args.worlds[0]) / "data" / slug(args.worlds[0]))).info
    result = {"world": info.world, "generator": info.generator, "contrasts": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    block = PRESETS[args.preset].block
    args.page.with_name(f"{block}_simulated.svg").write_text(chart(rows))
    picture = f"![Every interval beside the margin, simulated]({block}_simulated.svg)"
    flags = "" if args.preset == "null" else f"--preset {args.preset}"
    write_page(args.page, "null_worlds", f"{tables(rows)}\n\n{picture}", flags)
    print(tables(rows))


if __name__ == "__main__":
    main()

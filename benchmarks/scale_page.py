"""The figures of docs/scale.md, from benchmarks/scale.json."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def figures(results: dict[str, Any]) -> str:
    """Markdown: what is sent, memory and roofline, what stays whole, and what it was compiled with."""
    rows = list(results.values())
    parts = [traffic(rows), *named(results), roofline(rows), whole(rows), about(rows)]
    return "\n\n".join(part for part in parts if part)


def traffic(rows: list[dict[str, Any]]) -> str:
    """The first table: bytes sent, against the minimum."""
    lines = head(
        "system, mesh, devices, batch, over data and fsdp: parameters, over tensor: activations, sent, minimum, ratio, "
        "unplanned gathers of parameters"
    )
    for found in rows:
        row, sent = found["row"], found["sent"]
        of_tensor = sum(n for key, n in sent.items() if "tensor" in key.split(" ")[1])
        all_sent, least = sum(sent.values()), sum(found["minimum"].values())
        figures = [mb(all_sent - of_tensor), mb(of_tensor) if of_tensor else "-", mb(all_sent), mb(least)]
        lines.append(
            f"| {row['preset']} | {mesh(row)} | {devices(row)} | {row['batch_size']:,} | {' | '.join(figures)} | "
            f"{found['ratio']:.3f} | {len(found['unplanned_gathers']) or 'none'} |"
        )
    return "Megabytes that a device sends in one step.\n\n" + "\n".join(lines)


def named(results: dict[str, Any]) -> list[str]:
    """A line for each gather that no plan has."""
    return [f"Unplanned in `{name}`: {line}" for name, found in results.items() for line in found["unplanned_gathers"]]


def roofline(rows: list[dict[str, Any]]) -> str:
    """The second table, of estimates."""
    lines = head(
        "system, mesh, device, memory a device, of the device's, arithmetic, memory traffic, network, estimated step, "
        "estimated MFU"
    )
    for found in rows:
        row, e = found["row"], found["estimate"]
        kinds = ("arithmetic", "memory", "network", "step")
        times = " | ".join(f"{1e3 * e[key]:,.0f} ms" if key in e else "-" for key in kinds)
        mfu = f"{e['mfu']:.0%}" if "mfu" in e else "-"
        lines.append(
            f"| {row['preset']} | {mesh(row)} | {row['chip']}, {row['dtype']} | "
            f"{found['memory']['peak'] / 1e9:.1f} GB | {e['memory_share']:.0%} | {times} | {mfu} |"
        )
    return "**Estimates, not measurements**: no step of these was run.\n\n" + "\n".join(lines)


def whole(rows: list[dict[str, Any]]) -> str:
    """Which parameters stay whole on every device, layers gathered under one name."""
    lines = []
    for found in rows:
        row, left = found["row"], found["left_whole"]
        for why, names in left.items():
            if not names or row["fsdp"] == 1:
                continue
            kinds = Counter(re.sub(r"layer_\d+", "layer_*", name) for name in names)
            listed = ", ".join(f"`{kind}`" + (f" ({n})" if n > 1 else "") for kind, n in sorted(kinds.items()))
            reason = {"undivided": "no side is a multiple", "by rule": "vectors, which no rule splits"}[why]
            title = f"{row['preset']}, {mesh(row)}: {len(names)} parameters, {reason}"
            lines.append(f"<details><summary>{title}</summary>\n\n{listed}\n\n</details>")
    return "What stays replicated (the number of layers behind a name):\n\n" + "\n".join(lines) if lines else ""


def about(rows: list[dict[str, Any]]) -> str:
    """What they were compiled with; one line a combination."""
    seen: dict[str, list[float]] = {}
    for found in rows:
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        machine = f"{found['machine']['cpu']}, {found['machine']['cores']} core(s)"
        where = f"{found['date']}, commit {found['commit']}; {machine}; {versions}"
        seen.setdefault(where, []).append(found["compile_seconds"])
    return "\n".join(f"Compiled {where}; at most {max(seconds):.0f} s a row." for where, seconds in seen.items())


def head(columns: str) -> list[str]:
    """The first two lines of a table."""
    names = columns.split(", ")
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def mesh(row: dict[str, Any]) -> str:
    """`data 128 x tensor 2`."""
    return " x ".join(f"{axis} {row[axis]}" for axis in ("data", "fsdp", "tensor") if row[axis] > 1)


def devices(row: dict[str, Any]) -> str:
    """How many, and what stood for them."""
    settings = ", ".join(f"`{key}={value}`" for key, value in row["settings"])
    kind = f"TPU {row['topology']}" if row["topology"] else "fake"
    return f"{row['devices']} {kind}" + (f", {settings}" if settings else "")


def mb(n: float) -> str:
    """Megabytes."""
    return f"{n / 1e6:,.1f}"

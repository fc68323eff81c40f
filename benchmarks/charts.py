"""Charts as SVG, for the pages: nothing is drawn that a text editor could not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP = 640, 360, 48, 36
COLOURS = ("#1b6ca8", "#c0392b", "#27893f", "#8e44ad", "#d17b0f", "#0f8b8d", "#7f5539", "#555555", "#d6336c")

Points = Sequence[tuple[float, float]]


def line_chart(curves: Mapping[str, Points], title: str, x_label: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """SVG: y over `span` (clipped), x from 0 to the largest; a colour and a name a curve."""
    low, high = span
    last = max((points[-1][0] for points in curves.values() if points), default=1) or 1
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 260}" height="{HEIGHT + 90}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, value = TOP + HEIGHT * (1 - share), low + share * (high - low)
        lines.append(
            f'<path d="M{LEFT} {y:.1f}H{LEFT + WIDTH}" stroke="#ddd"/><text x="8" y="{y + 4:.1f}">{value:.3g}</text>'
        )
    for i, (name, points) in enumerate(curves.items()):
        shares = ((x / last, (y - low) / (high - low)) for x, y in points)
        places = ((LEFT + WIDTH * x, TOP + HEIGHT * (1 - min(max(y, 0.0), 1.0))) for x, y in shares)
        drawn, colour = " ".join(f"{x:.1f},{y:.1f}" for x, y in places), COLOURS[i % len(COLOURS)]
        y = TOP + 12 + 20 * i
        lines.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        lines.append(f'<text x="{LEFT + WIDTH + 16}" y="{y}" fill="{colour}">{escape(name)}</text>')
    lines.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 24}">{escape(x_label)}, 0 to {last:g}</text></svg>')
    return "\n".join(lines) + "\n"


Interval = tuple[float, float, float]


def interval_chart(rows: Mapping[str, Sequence[Interval]], title: str, margin: float, span: float) -> str:
    """SVG: a band of (value, low, high) lines a row, over -span to span (clipped); the margin is grey."""
    place = [0]
    for found in rows.values():
        place.append(place[-1] + 10 * len(found) + 18)
    left, bottom = 260, TOP + place[-1]

    def x(value: float) -> float:
        return left + WIDTH * (min(max(value, -span), span) + span) / (2 * span)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + WIDTH + 40}" height="{bottom + 40}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="20">{escape(title)}</text>',
        f'<rect x="{x(-margin):.1f}" y="{TOP}" width="{x(margin) - x(-margin):.1f}" height="{place[-1]}" fill="#eee"/>',
        f'<path d="M{x(0):.1f} {TOP}V{bottom}" stroke="#999"/>',
    ]
    for i, (name, found) in enumerate(rows.items()):
        y, colour = TOP + place[i] + 14, COLOURS[i % len(COLOURS)]
        lines.append(f'<text x="8" y="{y + 5 * len(found):.1f}" fill="{colour}">{escape(name)}</text>')
        for k, (value, low, high) in enumerate(found):
            at = y + 10 * k
            lines.append(f'<path d="M{x(low):.1f} {at}H{x(high):.1f}" stroke="{colour}" stroke-width="1.5"/>')
            lines.append(f'<circle cx="{x(value):.1f}" cy="{at}" r="3" fill="{colour}"/>')
    for tick in (-span, -span / 2, 0.0, span / 2, span):
        lines.append(f'<text x="{x(tick):.1f}" y="{bottom + 20}" text-anchor="middle">{tick:+.3g}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"

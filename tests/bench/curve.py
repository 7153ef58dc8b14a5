"""An SVG of how fast web pages come, over how long a page computes: requests a second of both VMs on the left, how many times as many on the right.
Nothing is run here: figures in, text out."""

import math

WIDTH, HEIGHT, LEFT, TOP, PANEL_W, PANEL_H, GAP = 960, 420, 70, 60, 360, 270, 120
INK, GRID, SPREAD, PACKED, TARGET = "#222", "#ddd", "#1f6fb4", "#c8641b", "#2a8a3a"


def log_scale(low, high, start, end):
    return lambda v: start + (end - start) * (math.log(v) - math.log(low)) / (math.log(high) - math.log(low))


def linear_scale(low, high, start, end):
    return lambda v: start + (end - start) * (v - low) / (high - low)


def text(x, y, words, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{words}</text>'


def line(points, colour, more="", width=2):
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'


def grid(left, x, y, lengths, ticks, title, unit):
    """Axes, their labels, and lines to read values by."""
    bottom = TOP + PANEL_H
    found = [text(left + PANEL_W / 2, TOP - 18, title, more=' font-weight="bold"')]
    for v in ticks:
        found += [line([(left, y(v)), (left + PANEL_W, y(v))], GRID, width=1), text(left - 8, y(v) + 4, f"{v:g}", "end")]
    for ms in lengths:
        found += [line([(x(ms), bottom), (x(ms), bottom + 5)], INK), text(x(ms), bottom + 20, str(ms))]
    found += [line([(left, TOP), (left, bottom), (left + PANEL_W, bottom)], INK), text(left + PANEL_W / 2, bottom + 42, "computation of a page, ms")]
    middle = TOP + PANEL_H / 2
    return found + [text(left - 45, middle, unit, more=f' transform="rotate(-90 {left - 45} {middle:.1f})"')]


def curve(x, y, values, colour, form, above):
    points = [(x(ms), y(v)) for ms, v in values]
    marks = [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>' for px, py in points]
    return [line(points, colour)] + marks + [text(px, py + (-10 if above else 20), form.format(v), more=f' fill="{colour}"') for (px, py), (_, v) in zip(points, values)]


def rates(spread, packed, lengths):
    values = [v for _, v in spread + packed]
    low, high = min(values) / 1.6, max(values) * 1.6
    x, y = log_scale(lengths[0] / 1.25, lengths[-1] * 1.25, LEFT, LEFT + PANEL_W), log_scale(low, high, TOP + PANEL_H, TOP)
    ticks = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    found = grid(LEFT, x, y, lengths, ticks, "pages served", "requests a second")
    found += curve(x, y, spread, SPREAD, "{:.3g}", True) + curve(x, y, packed, PACKED, "{:.3g}", False)
    for row, (colour, words) in enumerate(((SPREAD, "one vCPU a node"), (PACKED, "the same vCPUs on one core"))):
        at = TOP + 16 + 18 * row
        found += [line([(LEFT + 150, at - 4), (LEFT + 174, at - 4)], colour), text(LEFT + 180, at, words, "start")]
    return found


def gains(values, lengths, target, target_from):
    left = LEFT + PANEL_W + GAP
    high = max(2.2, 1.1 * max(v for _, v in values))
    x, y = log_scale(lengths[0] / 1.25, lengths[-1] * 1.25, left, left + PANEL_W), linear_scale(0, high, TOP + PANEL_H, TOP)
    found = grid(left, x, y, lengths, [v / 2 for v in range(int(2 * high) + 1)], "over overcommitment", "times as many")
    found += [line([(x(target_from), y(target)), (left + PANEL_W, y(target))], TARGET, ' stroke-dasharray="6 4"'),
              text(x(target_from), y(target) + 18, f"target: {target:g} from {target_from} ms on", "middle", f' fill="{TARGET}"')]
    return found + curve(x, y, values, SPREAD, "{:.2f}", True)


def svg(spread, packed, target, target_from, note):
    """spread, packed: lists of (ms, requests a second), the same lengths in rising order, at least two."""
    lengths = [ms for ms, _ in spread]
    body = rates(spread, packed, lengths) + gains([(ms, a / b) for (ms, a), (_, b) in zip(spread, packed)], lengths, target, target_from)
    body.append(text(WIDTH / 2, HEIGHT - 12, note, more=' font-size="11"'))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" fill="{INK}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *body, "</svg>", ""])

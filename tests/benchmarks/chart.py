"""The benchmark's chart, as SVG: for each size, the client's processor time and the wall of every contestant."""

from html import escape

from bot.operating.bench import Result, Shape

COLOURS = {"octocert": "#2f6f4f", "script": "#7a7a7a", "ansible": "#b5483a"}
WIDTH, BAR, GAP, LEFT, RIGHT = 860, 18, 8, 190, 110


def draw(lines: list[tuple[str, Shape, Result]]) -> str:
    """Return two groups of bars: CPU per target in milliseconds, and wall as a multiple of the ideal."""
    groups = (
        ("Client CPU per target, ms", [(n, s.hosts, r.cpu_seconds_per_target * 1000) for n, s, r in lines]),
        ("Wall time as a multiple of the ideal", [(n, s.hosts, r.wall_over_ideal) for n, s, r in lines]),
    )
    parts, y = list[str](), 30
    for title, rows in groups:
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 14
        most = max(value for _, _, value in rows) or 1
        for name, hosts, value in rows:
            length = max(1.0, value / most * (WIDTH - LEFT - RIGHT))
            colour = COLOURS[name.partition(",")[0]]
            middle = y + BAR - 5
            parts += [
                f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}, {hosts}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
                f'<text x="{LEFT + length + 6:.1f}" y="{middle}">{value:,.3g}</text>',
            ]
            y += BAR + GAP
        y += 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts)
    ) + "</svg>\n"

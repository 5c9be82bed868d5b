"""One SVG: a panel for each measure, a bar for each product, a whisker from the least to the most."""
from html import escape

from report import figure

WIDTH, LABELS, BAR, GAP, TITLE, ACROSS = 430, 190, 16, 5, 34, 2
COLOURS = {"plain": "#9aa0a6", "domicile": "#1a73e8", "peer": "#c58a3d"}
STYLE = "font-family:system-ui,sans-serif;font-size:12px"


def colour(product):
    return COLOURS["plain" if product == "plain" else "domicile" if product.startswith("domicile") else "peer"]


def panel(measure, rows, x, y):
    """The shapes of one measure, and how high they are."""
    most = max(row["max"] for row in rows) or 1
    room = WIDTH - LABELS - 70
    shapes = [f'<text x="{x}" y="{y + 14}" font-weight="bold">{escape(measure.name)}, {escape(measure.unit)} '
              f'<tspan font-weight="normal" fill="#666">({measure.better} is better)</tspan></text>']
    for number, row in enumerate(rows):
        top = y + TITLE - 8 + number * (BAR + GAP)
        left = x + LABELS
        scale = room / most
        middle = top + BAR / 2
        shapes.append(f'<text x="{left - 6}" y="{middle + 4}" text-anchor="end">{escape(row["product"])}</text>')
        long = max(row["median"] * scale, 1)
        shapes.append(f'<rect x="{left}" y="{top}" width="{long:.1f}" height="{BAR}" fill="{colour(row["product"])}">'
                      f'<title>{figure(row["median"])} ({figure(row["min"])} – {figure(row["max"])}), {row["runs"]} runs</title></rect>')
        if row["runs"] > 1:
            least, greatest = (f"{left + row[end] * scale:.1f}" for end in ("min", "max"))
            shapes.append(f'<line x1="{least}" x2="{greatest}" y1="{middle}" y2="{middle}" stroke="#222"/>')
        shapes.append(f'<text x="{left + row["max"] * scale + 5:.1f}" y="{middle + 4}">{figure(row["median"])}</text>')
    return shapes, TITLE + len(rows) * (BAR + GAP) + 14


def plot(rows, order, measures):
    """The whole drawing, as text."""
    panels = []
    for measure in measures:
        of = [row for name in order for row in rows if row["product"] == name and row["measure"] == measure.name]
        if of:
            panels.append((measure, of))
    shapes, heights = [], [10] * ACROSS
    for measure, of in panels:
        column = heights.index(min(heights))
        drawn, height = panel(measure, of, 14 + column * (WIDTH + 20), heights[column])
        shapes += drawn
        heights[column] += height
    width, height = 14 + ACROSS * (WIDTH + 20), max(heights) + 6
    size = f'width="{width}" height="{height}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" style="{STYLE}">',
                      f'<rect width="{width}" height="{height}" fill="white"/>', *shapes, "</svg>", ""])

# SPDX-License-Identifier: Apache-2.0
"""The picture docs/results/cpu.svg: how many times as fast as each peer, as bars on one axis.

Of PyTorch's ways of inference only the best is drawn. A bar is the median of the rounds, or the
geometric mean of the convolutions; the thin line across its end goes from the least to the most
of them; a diamond is libvgg with weights stored in bf16; a dark mark is the goal.
"""
import html
import math

import page
from contest import OURS, STORED_BF16
from results import ratio, ratios

WIDTH, LABELS, RIGHT = 780, 250, 84
BAR, STEP, HEADING = 11, 19, 34
INK, SOFT, GRID, PAPER = "#1f2933", "#66727f", "#dfe4ea", "#ffffff"
BLUE, PALE, ORANGE = "#2c6fbb", "#a9c5e4", "#d9730d"
FONT = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""


class Bar:
    """`around`: what `value` is the middle of. `pale`: the peer computes in bf16."""

    def __init__(self, label, value, around, goal):
        self.label, self.value, self.around, self.goal = label, value, around, goal
        self.pale, self.stored = False, None

    def most(self):
        return max(self.value, self.stored or 0, self.goal, *self.around)


def of_rows(rows, goal):
    bars = []
    for row in rows.values():
        if row["status"] != "ok":
            continue
        bar = Bar(row["peer"], ratio(row), ratios(row), goal)
        bar.pale, bar.stored = not row["counts"], ratio(row, STORED_BF16)
        bars.append(bar)
    return bars


def best_of_torch(rows):
    """The rows without PyTorch's slower ways."""
    torch = {name: row for name, row in rows.items() if name.startswith("torch-")}
    _, best = page.hardest(torch)
    return {name: row for name, row in rows.items() if name not in torch or row is best}


def sections(data):
    """(title, bars) of what there is."""
    found = [("Training step of VGG-11 / 4, batch 128",
              of_rows(page.group(data, "train"), page.TRAIN_GOAL))]
    for name, title in page.INFER_TITLES.items():
        found.append(("Inference, " + title.replace("with channels ", ""),
                      of_rows(best_of_torch(page.group(data, name)),
                              page.INFER_GOALS[name][0])))
    bars = []
    for kind, title in page.CONV_TITLES.items():
        mean, each = page.conv_mean(data, kind)
        if mean:
            bars.append(Bar(f"oneDNN, {title} ({len(each)})", mean, each,
                            page.CONV_GOALS[kind]))
    found.append(("Convolutions of VGG-11 / 4", bars))
    found.append(("Threads: the training step",
                  of_rows(page.group(data, "scaling"), page.SCALING_GOAL)))
    return [section for section in found if section[1]]


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(words)}</text>\n'


def line(x1, y1, x2, y2, more):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>\n')


def goal_mark(x, middle):
    return line(x, middle - 8, x, middle + 8, f'stroke="{INK}" stroke-width="2"')


def whisker(low, high, y):
    ends = "".join(line(x, y - 3, x, y + 3, f'stroke="{INK}"') for x in (low, high))
    return line(low, y, high, y, f'stroke="{INK}"') + ends


def diamond(x, y):
    return (f'<path d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z" fill="{ORANGE}" stroke="{PAPER}" '
            'stroke-width="1"/>\n')


def block(x, y, width, pale=False):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="1.5" '
            f'fill="{PALE if pale else BLUE}"/>\n')


def draw_bar(bar, y, scale):
    middle = y + BAR / 2
    out = text(LABELS - 10, middle + 4, bar.label, f'text-anchor="end" fill="{INK}"')
    out += block(LABELS, y, scale(bar.value) - LABELS, bar.pale)
    if len(bar.around) > 1:
        out += whisker(scale(min(bar.around)), scale(max(bar.around)), middle)
    out += goal_mark(scale(bar.goal), middle)
    value = f"{bar.value:.2f}"
    if bar.stored:
        out += diamond(scale(bar.stored), middle)
        out += text(WIDTH - 24, middle + 4, f"{bar.stored:.2f}",
                    f'text-anchor="end" fill="{ORANGE}"')
    return out + text(WIDTH - 58, middle + 4, value,
                      f'text-anchor="end" fill="{INK}" font-weight="600"')


def draw_section(section, y, scale):
    title, bars = section
    font = 'font-size="13" font-weight="600"'  # on paper, not on the grid's lines
    out = text(24, y + 20, title, f'{font} fill="{PAPER}" stroke="{PAPER}" stroke-width="6"')
    out += text(24, y + 20, title, f'{font} fill="{INK}"')
    top = y + HEADING - 4
    return (out + "".join(draw_bar(bar, top + i * STEP, scale) for i, bar in enumerate(bars)),
            top + len(bars) * STEP)


def legend(y):
    """Samples, each with its words; `x` where the next begins."""
    samples = (
        (lambda x: block(x, y - 5, 22), 22, "median"),
        (lambda x: whisker(x, x + 22, y), 22, "least to most"),
        (lambda x: block(x, y - 5, 22, pale=True), 22, "of a peer in bf16"),
        (lambda x: diamond(x + 5, y), 10, "weights stored in bf16"),
        (lambda x: goal_mark(x + 2, y), 4, "goal"))
    out, x = "", 24
    for draw, width, words in samples:
        out += draw(x) + text(x + width + 7, y + 4, words, f'fill="{SOFT}"')
        x += width + 7 + 7.2 * len(words) + 18
    return out


def grid(most, top, bottom, scale):
    out, step = "", 1 if most <= 8 else 2
    for value in range(0, most + 1, step):
        x = scale(value)
        out += line(x, top, x, bottom, f'stroke="{SOFT if value == 1 else GRID}"')
        out += text(x, bottom + 16, str(value), f'text-anchor="middle" fill="{SOFT}"')
    return out


def picture(data):
    parts = sections(data)
    most = math.ceil(max([bar.most() for _, bars in parts for bar in bars], default=1) + 0.05)

    def scale(value):
        return LABELS + (WIDTH - RIGHT - 24 - LABELS) * value / most

    y, body = 74, ""
    for section in parts:
        drawn, y = draw_section(section, y, scale)
        body += drawn
    if not parts:
        body, y = text(24, y + 20, "nothing has been measured yet", f'fill="{SOFT}"'), y + 40
    height = y + 34
    runs = data.get("runs", [])
    where = ", ".join([*sorted({run["processor"] for run in runs}),
                       *sorted({f"{run['threads']} threads" for run in runs})])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" {FONT} font-size="12">\n'
            "<title>How many times as fast as its peers libvgg is on a CPU</title>\n"
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="{PAPER}"/>\n'
            + text(24, 30, f"{OURS}: how many times as fast as its peers",
                   f'fill="{INK}" font-size="17" font-weight="700"')
            + text(WIDTH - 24, 30, where, f'text-anchor="end" fill="{SOFT}"')
            + legend(56) + grid(most, 74, y + 6, scale) + body + "</svg>\n")

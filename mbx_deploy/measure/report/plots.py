"""The report's plots: matplotlib's SVG, made to stand in a page that is light or dark.

Colours are drawn as stand-ins that no plot uses otherwise, and replaced by the page's CSS variables.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from mbx_deploy.errors import ToolMissing
from mbx_deploy.measure.report.findings import Accuracy, Layer
from mbx_deploy.measure.report.sounds import Spectrograms

INK, QUIET, LINE, PAPER = "#010203", "#010204", "#010205", "#010206"
FIRST, SECOND = "#010207", "#010208"
VARIABLES = {INK: "ink", QUIET: "quiet", LINE: "line", PAPER: "paper", FIRST: "first", SECOND: "second"}
MOST_PLOTTED_LABELS = 40
_WIDTH_IN = 8.0
_LONGEST_LABEL = 18
_HASH_SALT = "mbx-deploy"


def require_matplotlib() -> None:
    """Raise ToolMissing unless matplotlib is installed. Imports nothing."""
    if find_spec("matplotlib") is None:
        raise ToolMissing(
            "the report's plots need a Python package that is not installed: matplotlib",
            "pip install 'mbx-deploy[report]'",
        )


def _draw(name: str, height_in: float, paint: Callable[[Any], None], width_in: float = _WIDTH_IN) -> str:
    """Return the SVG element that paint(figure) draws. name: what its ids begin with."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font used for measuring lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": _HASH_SALT,
                "svg.fonttype": "none",
                "svg.image_inline": True,
                "text.parse_math": False,
                "axes.unicode_minus": False,
                "axes.formatter.use_mathtext": False,
                "font.size": 10,
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": LINE,
                "axes.facecolor": "none",
                "axes.titlesize": 10,
                "axes.titlelocation": "left",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "grid.color": LINE,
                "xtick.color": QUIET,
                "ytick.color": QUIET,
                "legend.frameon": False,
                "figure.facecolor": "none",
            }
        )
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _to_inline(text.getvalue(), name)


def _to_inline(svg: str, name: str) -> str:
    """Return matplotlib's SVG file as an element of a page: its colours the page's, its ids its own, its font too."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(?::\w+)?="[^"]*"', "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"font: (?:[\w ]*?)([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    svg = svg.replace("xlink:href=", "href=")
    size = re.match(r'<svg[^>]*?width="([\d.]+)pt"', svg)
    width = round(float(size[1]) * 4 / 3) if size else 760
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg aria-hidden="true" style="max-width: {width}px"', 1).strip()


def short(label: str) -> str:
    """Return a label that fits beside a plot."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def confusion(labels: Sequence[str], counts: np.ndarray) -> str | None:
    """Return the confusion matrix, int (n, n), a row what was said; None where there are too many labels to read."""
    count = len(labels)
    if count > MOST_PLOTTED_LABELS:
        return None

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                share = counts[row, column] / counts[row].sum()
                colour = FIRST if row == column else SECOND
                box = (column - 0.5, row - 0.5)
                axes.add_patch(_box(box, 1, 1, facecolor=colour, alpha=0.12 + 0.5 * share, linewidth=0))
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9)
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        names = [short(label) for label in labels]
        axes.set_xticks(range(count), names, rotation=45 if max(map(len, names)) > 5 else 0, ha="right", color=INK)
        axes.set_yticks(range(count), names, color=INK)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        axes.set_xlabel("answered")
        axes.set_ylabel("said")

    return _draw("confusion", min(14.0, 2.0 + 0.36 * count), paint)


def _box(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)


def noise(accuracy: Accuracy) -> str:
    """Return the share that is right over the ratio of speech to noise, a curve an engine; clean clips at the right."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        curves = [(score.engine, score.noise) for score in accuracy.scores]
        if accuracy.without_noise:
            curves.append(("float, trained without noise", accuracy.without_noise))
        styles = ((SECOND, "s", "--"), (FIRST, "o", "-"), (QUIET, "^", ":"))
        for (name, noise_rows), (colour, mark, dash) in zip(curves, styles, strict=False):
            rows = sorted(noise_rows, key=lambda row: np.inf if row[0] is None else row[0])
            places = list(range(len(rows)))
            shares = [100 * share for _, share in rows]
            axes.plot(places, shares, dash, marker=mark, color=colour, label=name, markersize=5)
            axes.set_xticks(places, ["clean" if ratio is None else f"{ratio:g} dB" for ratio, _ in rows])
        axes.set_ylim(0, 102)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_xlabel("speech to background noise")
        axes.set_ylabel("right, %")
        axes.legend(loc="lower right")

    return _draw("noise", 3.4, paint)


def detection_error(room: dict[str, Any]) -> str | None:
    """Return missed words over false accepts an hour, one threshold for all words, and where the model's own decision
    is; None where no words were spoken.
    """
    rows = [row for row in room["curve"] if row["miss_rate"] is not None]
    if not rows:
        return None

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        rates = [row["false_accepts_per_hour"] for row in rows]
        axes.plot(rates, [100 * row["miss_rate"] for row in rows], "-o", color=SECOND, markersize=4,
                  label="one threshold for all words")  # fmt: skip
        for number, row in enumerate(rows):
            if number % 4 == 0:
                place = (row["false_accepts_per_hour"], 100 * row["miss_rate"])
                axes.annotate(
                    f"{row['threshold']:g}", place, (5, 4), textcoords="offset points", fontsize=8, color=QUIET
                )
        if room["miss_rate"] is not None:
            own = ([room["false_accepts_per_hour"]], [100 * room["miss_rate"]])
            axes.plot(*own, "s", color=FIRST, markersize=8, label="the model's own decision")
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.grid(linewidth=0.6)
        axes.set_xlabel("false accepts an hour")
        axes.set_ylabel("missed, %")
        axes.legend(loc="upper right")

    return _draw("room", 3.4, paint)


def arena(report: dict[str, Any]) -> str:
    """Return what lies where in the arena, during which calls. report: the build's memory_report.json."""
    calls = len(report["calls"])

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for buffer in report["arena"]["buffers"]:
            first, last = max(0, buffer["first_call"]), min(calls - 1, buffer["last_call"])
            scratch = buffer["name"].endswith(", working memory")
            colour = SECOND if scratch else FIRST
            corner = (first - 0.46, buffer["offset"])
            width = last - first + 0.92
            axes.add_patch(_box(corner, width, buffer["bytes"], facecolor=colour, alpha=0.3, linewidth=0))
            axes.add_patch(_box(corner, width, buffer["bytes"], fill=False, edgecolor=colour, linewidth=1))
            if not scratch and buffer["bytes"] > 0.06 * report["arena"]["bytes"]:
                is_input = buffer["first_call"] < 0
                name = "in" if is_input else buffer["name"].split("_", 1)[0]
                height = buffer["offset"] + (0.25 if is_input else 0.5) * buffer["bytes"]
                axes.text(first, height, name, ha="center", va="center", fontsize=9)
        axes.axhline(report["arena"]["bytes"], color=QUIET, linewidth=1, linestyle=":")
        axes.set_xlim(-0.6, calls - 0.4)
        axes.set_ylim(0, report["arena"]["bytes"] * 1.04)
        axes.set_xticks(range(0, calls, 1 if calls <= 32 else 5))
        axes.set_xlabel("call")
        axes.set_ylabel("byte of the arena")
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:,.0f}")

    return _draw("arena", 3.8, paint)


def parts(name: str, rows: Sequence[tuple[str, int]]) -> str:
    """Return bytes by what they hold, a bar each."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        values = [value for _, value in rows]
        _bars(axes, [title for title, _ in rows], values, FIRST, [f"{value:,}" for value in values])
        axes.set_xlabel("bytes")

    return _draw(name, 0.7 + 0.3 * len(rows), paint)


def layers(rows: Sequence[Layer]) -> str:
    """Return bars of a layer's instructions, where they were counted, and of its constants in flash."""
    names = [row.name for row in rows]
    counted = all(row.instructions is not None for row in rows)

    def paint(figure: Any) -> None:
        all_axes = np.atleast_1d(figure.subplots(1, 2 if counted else 1, sharey=True))
        if counted:
            counts = [row.instructions or 0 for row in rows]
            total = max(1, sum(counts))
            _bars(all_axes[0], names, counts, FIRST, [f"{count / total:.1%}" for count in counts])
            all_axes[0].set_title("instructions")
        _bars(all_axes[-1], names, [row.bytes for row in rows], SECOND, [f"{row.bytes:,}" for row in rows])
        all_axes[-1].set_title("bytes of constants")

    return _draw("layers", 0.8 + 0.24 * len(rows), paint)


def _bars(axes: Any, names: Sequence[str], values: Sequence[int], colour: str, texts: Sequence[str]) -> None:
    places = np.arange(len(names))
    axes.barh(places, values, color=colour, height=0.72)
    largest = max([1, *values])
    for place, value, text in zip(places, values, texts, strict=True):
        axes.text(value + 0.015 * largest, place, text, va="center", fontsize=8, color=INK)
    axes.set_yticks(places, names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, largest * 1.2)
    axes.xaxis.set_major_formatter(_short_number)
    axes.xaxis.set_major_locator(_few_ticks())
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, integer=True)


def _short_number(value: float, place: int | None) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def sqnr(rows: Sequence[Layer]) -> str:
    """Return each layer's ratio of signal to error in dB, of its own and of all before it; exact ones have no mark."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(rows))
        for values, colour, mark, name in (
            ([row.own_db for row in rows], FIRST, "o", "this layer alone"),
            ([row.total_db for row in rows], SECOND, "s", "with all before it"),
        ):
            found = [(value, place) for value, place in zip(values, places, strict=True) if value is not None]
            axes.plot(*zip(*found, strict=True) if found else ([], []), mark, color=colour, label=name, markersize=6)
        axes.set_yticks(places, [row.name for row in rows], color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("signal to error, dB; more is better")
        figure.legend(loc="outside upper right", ncols=2)

    return _draw("sqnr", 1.0 + 0.24 * len(rows), paint)


def front_end(found: Spectrograms, hop_s: float) -> str:
    """Return three pictures: log-mel energies in float, in integers, and what is between them."""
    low, high = float(found.float_log_mel.min()), float(found.float_log_mel.max())
    most = max(float(np.abs(found.difference).max()), 1e-9)
    frames, mels = found.float_log_mel.shape

    def paint(figure: Any) -> None:
        panels = (
            ("float64", found.float_log_mel, "viridis", low, high),
            ("int32, as the firmware computes it", found.fixed_log_mel, "viridis", low, high),
            ("fixed minus float", found.difference, "PuOr", -most, most),
        )
        for axes, (title, values, colours, least, largest) in zip(
            figure.subplots(3, 1, sharex=True), panels, strict=True
        ):
            image = axes.imshow(
                values.T,
                origin="lower",
                aspect="auto",
                cmap=colours,
                vmin=least,
                vmax=largest,
                interpolation="none",
                extent=(0, frames * hop_s, 0, mels),
            )
            axes.set_title(title)
            axes.set_ylabel("mel band")
            bar = figure.colorbar(image, ax=axes, pad=0.01, label="ln")
            bar.outline.set_visible(False)
            if colours == "PuOr":
                bar.formatter = _plain_exponent
                bar.update_ticks()
        axes.set_xlabel("seconds")

    return _draw("frontend", 6.2, paint)


def _plain_exponent(value: float, place: int | None) -> str:
    return f"{value:.0e}" if value else "0"

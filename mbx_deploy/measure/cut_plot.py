"""A picture of what `data cut` found: the recording's level over time, with each utterance marked."""

import io
from collections.abc import Sequence

import numpy as np

from mbx_deploy.data.cutting import STEP_S, Spoken, levels_db

_LINE_S = 30.0  # of the recording in a row of the picture
_MOST_LINES = 40


def draw_spoken(samples: np.ndarray, rate: int, spoken: Sequence[Spoken]) -> bytes:
    """Return a PNG: half a minute a row, cut utterances green and numbered, those that were left out grey.

    samples: int16 (n,). The same input gives the same bytes. Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    levels = levels_db(samples, rate)
    rows = min(max(int(np.ceil(len(levels) * STEP_S / _LINE_S)), 1), _MOST_LINES)
    figure = Figure(figsize=(12, 0.6 + 1.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    low, high = float(levels.min()) - 3, float(levels.max()) + 6
    number = 0
    for row, axes in enumerate(np.atleast_1d(figure.subplots(rows, 1, sharey=True))):
        first, last = row * _LINE_S, (row + 1) * _LINE_S
        part = levels[round(first / STEP_S) : round(last / STEP_S)]
        axes.plot(first + np.arange(len(part)) * STEP_S, part, color="#33415c", linewidth=0.8)
        for one in spoken:
            if first <= one.start_s < last:
                colour = "#b0b0b0" if one.why_not else "#2a9d8f"
                axes.axvspan(one.start_s, one.end_s, color=colour, alpha=0.35, linewidth=0)
                text = one.why_not or str(number)
                axes.text((one.start_s + one.end_s) / 2, high - 4, text, ha="center", fontsize=8)
                number += not one.why_not
        axes.set_xlim(first, last)
        axes.set_ylim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.set_ylabel("dBFS")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    return picture.getvalue()

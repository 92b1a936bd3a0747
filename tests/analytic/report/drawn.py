"""Reading what a figure shows."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.text import Text


def xs(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


def ys(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


def texts(shown: Artist) -> list[str]:
    found = shown.findobj(lambda artist: isinstance(artist, Text))
    return [text.get_text() for text in found if isinstance(text, Text)]

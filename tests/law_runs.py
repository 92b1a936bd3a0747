"""Runs of a simulated law, as the CSV that `law fit` reads."""

from __future__ import annotations

import math
import random
from pathlib import Path

SIZES = (2e7, 5e7, 1e8, 2e8, 5e8, 1e9)
RATIOS = (5, 20, 80)


def additive(params: float, tokens: float) -> float:
    return 1.8 + 400 / params**0.34 + 2000 / tokens**0.37


def written(tmp_path: Path, text: str, name: str = "runs.csv") -> str:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def simulated(noise: float = 0.0, header: str = "N,D,loss") -> str:
    draw = random.Random(1)
    lines = [header]
    for params in SIZES:
        for ratio in RATIOS:
            loss = additive(params, ratio * params) * math.exp(draw.gauss(0, noise))
            lines.append(f"{params},{ratio * params},{loss!r}")
    return "\n".join(lines) + "\n"

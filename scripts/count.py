"""Count a model's parameters and FLOPs: the command of `trainmeter-count`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.commands.count import count

if __name__ == "__main__":
    sys.exit(count())

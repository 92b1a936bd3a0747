"""Time layers and models on this machine: the command of `trainmeter-calibrate`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from empirical.commands.calibrate import calibrate

if __name__ == "__main__":
    sys.exit(calibrate())

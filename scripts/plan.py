"""Plan a pretraining run: the command of `trainmeter-plan`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.commands.plan import plan

if __name__ == "__main__":
    sys.exit(plan())

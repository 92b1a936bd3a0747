"""Read, build and compare every causal language model class of `transformers`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from empirical.commands.sweep import sweep

if __name__ == "__main__":
    sys.exit(sweep())

"""Prove the formulas against the real models: `foretrain prove`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from empirical.commands.prove import VERB

if __name__ == "__main__":
    sys.exit(VERB.main())

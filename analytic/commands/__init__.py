"""The verbs of the command that need no torch: one module each."""

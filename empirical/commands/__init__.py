"""The command `foretrain`, and the verbs that need torch."""

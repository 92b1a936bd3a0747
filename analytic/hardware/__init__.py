"""GPUs and their prices, each figure with its source."""

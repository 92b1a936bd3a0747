"""Instruments that measure a machine: seconds, peak bytes, a training run."""

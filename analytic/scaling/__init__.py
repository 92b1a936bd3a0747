"""Scaling laws: loss, compute-optimal allocation, repeated data."""

"""Instruments that count: parameters, FLOPs, live bytes."""

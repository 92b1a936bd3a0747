"""Instruments: the same models built in torch, counted, traced and measured."""

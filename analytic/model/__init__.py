"""The description of a model and of a training step, and the closed forms of its parameters and FLOPs."""

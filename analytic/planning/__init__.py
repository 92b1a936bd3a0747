"""From a budget or a machine to a model, its tokens, its loss and its placement on GPUs."""

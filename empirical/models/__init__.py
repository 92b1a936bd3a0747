"""The same models in torch: our layers, the `transformers` classes, and programs that run them."""

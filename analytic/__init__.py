"""Closed-form arithmetic of language-model pretraining. Imports neither torch nor transformers."""

"""Hugging Face's `config.json`: read into a `ModelSpec`, and written from one."""

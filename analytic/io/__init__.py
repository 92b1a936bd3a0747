"""Bytes and keys: files in and out, JSON with comments, checked access to the keys of an object. Knows no model."""

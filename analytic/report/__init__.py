"""Results as text, JSON and pictures. The only package that rounds or picks a unit."""

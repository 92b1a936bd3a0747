"""The exercise that this project grew from, by the names of its functions."""

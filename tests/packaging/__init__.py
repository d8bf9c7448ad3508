"""The wheel: what is in it, and whether it works where the source is not."""

"""Configuration files: what holds for every call in a folder, or for one person."""

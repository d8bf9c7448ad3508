"""The store and the program on a real PostgreSQL; skipped, with a reason, where none can be had."""

"""The store in one SQLite file: connections, locks, the file itself."""

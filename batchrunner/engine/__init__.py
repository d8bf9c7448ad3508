"""The engine: the holder's cycle, its senders, and the followers that take over."""

"""The decisions, sans-IO: time, randomness and ids are arguments."""

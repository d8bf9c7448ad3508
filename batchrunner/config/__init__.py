"""Configuration files: what holds for every call in a folder, or for one person.

    config = load_config(environ=os.environ, profile="free")
    app = Batchrunner(config.db or "batchrunner.db", config=config)

What is typed comes before the configuration, what is stored with a run and the environment too.
"""

from __future__ import annotations

from batchrunner.config.load import load_config
from batchrunner.config.resolve import EMPTY, Config

__all__ = ["EMPTY", "Config", "load_config"]

"""batchrunner beside what people use instead, on the same servers with the same jobs."""

from __future__ import annotations

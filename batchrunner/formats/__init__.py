"""Readers of job files and writers of exports.

Everything here is a stream: a file of a million lines is read and written in constant memory.
"""

from __future__ import annotations

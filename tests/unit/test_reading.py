"""Files are read until somebody says stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batchrunner.formats.lines import Fill
from batchrunner.formats.prompts import Rows
from batchrunner.providers import BUILT_IN
from batchrunner.reading import InterruptedIntakeError, Order, Reading


class _Reader(Reading):
    """Reads all that there is."""

    def jobs(self) -> list[Any]:
        """Return the jobs and faults."""
        rules, lines = self.provider()
        return list(self._read(rules, lines))


def test_a_stop_is_seen_between_two_rows(tmp_path: Path) -> None:
    """A template may take seconds a row: no row is begun after somebody said stop."""
    rows = tmp_path / "rows.csv"
    rows.write_text("name\n" + "Bo\n" * 100)
    seen: list[str] = []

    def slow(row: Mapping[str, Any]) -> str:
        seen.append(row["name"])
        return "text"

    order = Order(
        files=[str(rows)], stdin=None, provider="anthropic", providers=BUILT_IN,
        address=lambda _known: None, fill=Fill(model="m", max_tokens=1, system=None), name=None,
        uid="u", options_json="{}", priority=0, is_new=False, is_update=False,
        skips_invalid=False, is_compressed=lambda _known, _run: False, rows=Rows(template=slow),
    )  # fmt: skip
    with pytest.raises(InterruptedIntakeError):
        _Reader(order, is_stopped=lambda: len(seen) > 1).jobs()
    assert len(seen) == 2

"""The audit of what is installed: a vulnerability fails it, and one that was not made says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"
FOUND = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
FINE = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([FOUND, FINE], 1, "a 1: PYSEC-1, mended in 2"),
        ([FINE, UNKNOWN], 0, "1 of 2 packages were looked up"),
        ([UNKNOWN], 0, "skipped: the index has no list of advisories"),
        (None, 0, "skipped: the list of advisories can't be asked from here"),
    ],
    ids=["a vulnerability", "none", "an index without a list", "no network"],
)
def test_an_audit_fails_for_what_it_found_alone(
    tmp_path: Path, packages: list[dict[str, object]] | None, code: int, says: str
) -> None:
    """Found is exit 1 with the name and the mended version; what could not be asked is skipped aloud."""
    report = "" if packages is None else json.dumps({"dependencies": packages})
    fake = tmp_path / "pip-audit"
    fake.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n'
        f"printf '%s' '{report}' > \"$2\"\necho 'no answer' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    done = subprocess.run(
        [AUDIT, sys.executable],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done
    assert says in done.stdout

"""Options of several sources become those in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.cli.settings import Settings
from batchrunner.engine.live import CallLimits
from batchrunner.engine.loading import with_defaults
from batchrunner.models import JobCounts, RunId
from batchrunner.options import DEFAULT_MAX_WAIT_S, NO_END, CallOptions, in_force
from batchrunner.store.holder import RunRow


def test_stored_options_come_before_the_configuration() -> None:
    """What is stored with a run wins, option by option."""
    found = in_force({"timeout_s": 5, "account": "a"}, {"timeout_s": 9, "max_attempts": 2})
    assert found == {"timeout_s": 5, "account": "a", "max_attempts": 2}


def test_environment_can_come_between() -> None:
    """Where a variable comes before the configuration, its value is kept apart."""
    found = in_force({"base_url": "http://typed"}, {"base_url": "http://c", "proxy": ["none"]})
    assert found == {
        "base_url": "http://typed",
        "default_base_url": "http://c",
        "default_proxy": ["none"],
    }


def test_headers_of_both_are_sent() -> None:
    """Headers add up; those stored with the run come last, and so win."""
    found = in_force({"headers": ["A: 1"]}, {"headers": ["A: 0", "B: 0"]})
    assert found == {"headers": ["A: 0", "B: 0", "A: 1"]}


@pytest.mark.parametrize(
    ("said", "longest"),
    [(None, DEFAULT_MAX_WAIT_S), (NO_END, None), (0.0, 0.0), (60.0, 60.0)],
)
def test_longest_wait(said: float | None, longest: float | None) -> None:
    """Unsaid is the default, --wait has no end, 0 waits for nothing."""
    assert CallOptions(max_wait_s=said).longest_wait_s == longest


@pytest.mark.parametrize(
    ("column", "stored", "configured", "priority"),
    [
        (0, {}, {}, 0),
        (0, {}, {"priority": 4}, 4),
        (3, {}, {"priority": 4}, 3),
        (0, {"priority": 0}, {"priority": 4}, 0),
        (-2, {"priority": -2}, {}, -2),
    ],
)
def test_priority_typed_comes_before_the_configuration(
    column: int, stored: dict[str, int], configured: dict[str, int], priority: int
) -> None:
    """A priority that was typed holds, 0 too; else the configuration's does."""
    row = RunRow(
        id=RunId(1), uid="u", name="n", state="ready", provider="http", account_id=None,
        options=dict(stored), priority=column, counts=JobCounts(), n_rejected=0, created_at=0,
        started_at=None,
    )  # fmt: skip
    limits = CallLimits(max_wait_s=None, defaults=configured)
    assert with_defaults(row, limits).priority == priority


def test_commands_to_copy_find_the_same_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said for the whole call is in the commands that a person is given."""
    monkeypatch.delenv("BATCHRUNNER_DB", raising=False)
    settings = Settings(config_file=Path("a b.toml"), profile="paid")
    assert settings.command("resume", "x") == (
        "batchrunner resume x --config 'a b.toml' --profile paid"
    )
    assert Settings().command("resume") == "batchrunner resume"
    monkeypatch.setenv("BATCHRUNNER_DB", "e.db")
    assert Settings().command("resume") == "batchrunner resume --db e.db"


def test_fixes_to_copy_find_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fix is pasted into a shell that knows nothing of this call: its --db, --profile and run are named."""
    monkeypatch.delenv("BATCHRUNNER_DB", raising=False)
    fix = "export A_KEY='…' && batchrunner resume; or: batchrunner retry x --error timeout"
    assert Settings().placed(fix) == fix
    settings = Settings(typed_db=Path("a b.db"), profile="paid")
    assert settings.placed(fix) == (
        "export A_KEY='…' && batchrunner resume --db 'a b.db' --profile paid; or:"
        " batchrunner retry --db 'a b.db' --profile paid x --error timeout"
    )
    assert Settings().placed(fix, "my run") == (
        "export A_KEY='…' && batchrunner resume 'my run'; or: batchrunner retry x --error timeout"
    )
    assert Settings().placed("batchrunner resume --proxy none  (or not)", "x") == (
        "batchrunner resume x --proxy none  (or not)"
    )
    help_alone = "see batchrunner retry --help; batchrunner key set anthropic"
    assert settings.placed(help_alone, "x") == help_alone

"""What an examination makes of lists, answers and failures, without a network."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from batchrunner.checkup import allowance, machine
from batchrunner.checkup.advice import words
from batchrunner.checkup.allowance import Allowance, Errand
from batchrunner.checkup.answers import put_clock, put_limits, put_models
from batchrunner.checkup.case import put_refusal
from batchrunner.checkup.keys import other_form, put_key
from batchrunner.checkup.listing import Listed, Listing, read_listing
from batchrunner.checkup.machine import examine_machine
from batchrunner.checkup.sheet import PLACES, WAY, Sheet, exit_code_of
from batchrunner.cli.doctor import lines
from batchrunner.core.credentials import Credential
from batchrunner.errors import UsageError
from batchrunner.models import ErrorKind, ExitCode
from batchrunner.providers import pool_of, profile
from batchrunner.store import caps, inspection
from batchrunner.store.database import Database
from batchrunner.store.sqlite import connecting
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.transport import Aborted
from batchrunner.views import CheckStatus, CheckView, LimitView

OK, WARN, FAIL, SKIP = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAIL, CheckStatus.SKIP
AT = 1_795_420_800_000
DATE = "Mon, 23 Nov 2026 08:00:00 GMT"
MEND = "batchrunner resume RUN --set model={model}"


def sheet() -> Sheet:
    """Return an empty one."""
    return Sheet("https://host", WAY)


def found(of: Sheet, name: str) -> CheckView:
    """Return one check of a sheet."""
    return next(check for check in of.checks() if check.check == name)


def listing(*names: str) -> Listing:
    """Return a list of active models."""
    return Listing(models=tuple(Listed(name=name, life="active") for name in names))


# --- the list of models


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ({"models": [{"name": "models/gemini-2.5-flash"}]}, ["gemini-2.5-flash"]),
        ([{"id": "a"}, {"id": "a"}], ["a"]),
        ({"data": ["a", "", 7, {"other": 1}]}, ["a"]),
        ({"data": []}, []),
    ],
    ids=["data", "models", "plain", "odd rows", "empty"],
)
def test_lists_of_all_forms_are_read(body: Any, expected: list[str]) -> None:
    """Names come out in order, once each, whatever the list is called."""
    read = read_listing(json.dumps(body).encode())
    assert read is not None
    assert [model.name for model in read.models] == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'"x"', b"null", b'{"data": 1}', b"[" * 9999]
)
def test_what_is_no_list_is_none(body: bytes) -> None:
    """Anything else is told apart, and raises nothing."""
    assert read_listing(body) is None


@pytest.mark.parametrize(
    ("row", "life", "date"),
    [
        ({"lifecycle": "active", "deprecated_at": None}, "active", ""),
        ({"lifecycle": "deprecated", "deprecated_at": "2026-12-01T00:00:00Z"}, "deprecated", "2026-12-01"),
        ({"lifecycle": "retired"}, "retired", ""),
        ({"deprecation": "2027-01-31"}, "deprecated", "2027-01-31"),
        ({"active": False}, "retired", ""),
        ({"deprecated_at": 1_800_000_000}, "deprecated", "2027-01-15"),
        ({"status": "whatever", "deprecation": None}, "", ""),
    ],
)  # fmt: skip
def test_the_life_of_a_model_is_read(row: dict[str, Any], life: str, date: str) -> None:
    """State and day come from whichever field a provider has for them."""
    read = read_listing(json.dumps({"data": [{"id": "m", **row}]}).encode())
    assert read == Listing(models=(Listed(name="m", life=life, date=date),))


def test_more_pages_are_told() -> None:
    """A list that goes on is known not to be whole."""
    read = read_listing(b'{"data": [{"id": "a"}], "has_more": true}')
    assert read is not None
    assert read.is_cut


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-haiku-4-5-latest", "claude-haiku-4-5-20251001"),
        ("gpt-4o", "gpt-4o-2024-11-20"),
        ("claude-haiku-4-5-20250101", None),
        ("claude-haiku", None),
    ],
)
def test_a_name_without_an_edition_stands_for_the_latest(asked: str, name: str | None) -> None:
    """An alias finds its latest edition, and no other model."""
    models = listing("claude-haiku-4-5-20251001", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    it = models.find(asked)
    assert (it and it.name) == name


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("claude-haiku-4.5", "claude-haiku-4-5-20251001"),
        ("claude-3-5-sonet", "claude-3-5-sonnet-20241022"),
        ("gpt-4o-min", "gpt-4o-mini"),
        ("Claude-Opus-4-5", "claude-opus-4-5"),
    ],
)
def test_near_names_come_best_first(asked: str, first: str) -> None:
    """A slip of the pen finds the model that was meant."""
    models = listing(
        "gpt-4o-mini", "gpt-4o", "claude-opus-4-5", "claude-3-5-sonnet-20241022",
        "claude-haiku-4-5-20251001",
    )  # fmt: skip
    assert models.near(asked)[0] == first


def test_what_is_nothing_like_any_has_no_near_names() -> None:
    """Nothing is invented for a name of another world."""
    assert listing("claude-opus-4-5").near("zzz") == []


def test_a_retired_model_is_never_a_near_one() -> None:
    """Nobody is sent to a model that does not answer."""
    models = Listing(models=(Listed(name="m-1", life="retired"), Listed(name="m-2")))
    assert models.near("m-1") == ["m-2"]


# --- checks of models


def test_a_missing_model_fails_with_the_nearest_and_the_command() -> None:
    """The fix is a command that takes the nearest model."""
    it = sheet()
    put_models(it, listing("sim-1", "sim-1-large"), ["sim-l"], mend=MEND)
    check = found(it, "model")
    assert (check.status, check.exit_code) == (FAIL, ExitCode.REFUSED)
    assert "there is no sim-l" in check.detail
    assert "nearest: sim-1" in check.detail
    assert check.fix == "batchrunner resume RUN --set model=sim-1"


def test_a_deprecated_model_warns_with_its_date() -> None:
    """It still answers; what comes instead is named."""
    models = Listing(
        models=(Listed(name="m-1", life="deprecated", date="2026-12-01"), Listed(name="m-2"))
    )
    it = sheet()
    put_models(it, models, ["m-1"], mend=MEND)
    check = found(it, "model")
    assert check.status is WARN
    assert "2026-12-01" in check.detail
    assert "model=m-2" in check.fix


def test_the_worst_of_several_models_decides() -> None:
    """One missing model fails the check, and all are told of."""
    it = sheet()
    put_models(it, listing("a-1"), ["a-1", "zzz"], mend=MEND)
    check = found(it, "model")
    assert check.status is FAIL
    assert "a-1 is in the key's list" in check.detail
    assert "there is no zzz" in check.detail


def test_a_list_that_goes_on_proves_nothing_missing() -> None:
    """Past the first page a model may be; that is said, and is no failure."""
    it = sheet()
    put_models(it, Listing(models=(Listed(name="a"),), is_cut=True), ["zzz"], mend=MEND)
    assert found(it, "model").status is WARN
    assert "--live" in found(it, "model").fix


# --- limits, clock


def test_limits_of_headers_and_database_are_told_together() -> None:
    """What the answer named and what is in force here stand side by side."""
    it = sheet()
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-23T08:00:01Z",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
    }
    stored = LimitView(
        scope="a", limit="rpd", value=500, source="flag", used=3, remaining=497, resets_at=None
    )
    put_limits(it, headers, [stored], now_ms=AT)
    check = found(it, "limits")
    assert check.status is OK
    assert check.detail == (
        "the answer says requests 50 (49 left, whole again at 08:00:01 UTC),"
        " input tokens 30,000 (29,000 left); in force here rpd 500 (by flag, 3 used, 497 left)"
    )


def test_a_spent_limit_warns() -> None:
    """A run would wait; that is worth a word."""
    it = sheet()
    stored = LimitView(
        scope="a", limit="rpd", value=3, source="flag", used=3, remaining=0, resets_at=None
    )
    put_limits(it, {}, [stored], now_ms=AT)
    assert found(it, "limits").status is WARN


@pytest.mark.parametrize(
    ("now", "status"),
    [(AT + 119_000, OK), (AT + 121_000, WARN), (AT - 3_600_000, WARN)],
    ids=["near", "ahead", "behind"],
)
def test_a_clock_beyond_two_minutes_warns(now: int, status: CheckStatus) -> None:
    """The difference is told with what sets the clock."""
    it = sheet()
    put_clock(it, {"date": DATE}, now_ms=now)
    assert found(it, "clock").status is status
    assert ("timedatectl" in found(it, "clock").fix) == (status is WARN)


def test_without_a_date_the_clock_is_skipped() -> None:
    """What can't be told is said not to be."""
    it = sheet()
    put_clock(it, {}, now_ms=AT)
    assert found(it, "clock").status is SKIP


# --- keys


class _Form(NamedTuple):
    provider: str
    headers: dict[str, str]
    source: str


@pytest.mark.parametrize(
    ("form", "other", "words_"),
    [
        (
            _Form("anthropic", {"x-api-key": "k1"}, "ANTHROPIC_API_KEY"),
            {"authorization": "Bearer k1"},
            ["Set ANTHROPIC_AUTH_TOKEN instead of ANTHROPIC_API_KEY", "${ANTHROPIC_API_KEY}"],
        ),
        (
            _Form("anthropic", {"authorization": "Bearer k1"}, "ANTHROPIC_AUTH_TOKEN"),
            {"x-api-key": "k1"},
            ["Set ANTHROPIC_API_KEY instead of ANTHROPIC_AUTH_TOKEN"],
        ),
        (
            _Form("openai", {"authorization": "Bearer k1"}, "OPENAI_API_KEY"),
            {"x-api-key": "k1"},
            ["-H 'x-api-key: ${OPENAI_API_KEY}'"],
        ),
        (
            _Form("anthropic", {"x-api-key": "k1"}, "ANTHROPIC_API_KEY_FILE"),
            {"authorization": "Bearer k1"},
            ["Set ANTHROPIC_AUTH_TOKEN_FILE instead of ANTHROPIC_API_KEY_FILE"],
        ),
    ],
    ids=["x-api-key", "bearer", "openai", "file"],
)
def test_the_other_header_is_offered(form: _Form, other: dict[str, str], words_: list[str]) -> None:
    """The key goes in the header that was not tried, and the option for it is named, never the key."""
    offered = other_form(profile(form.provider), Credential("k1", form.source), form.headers)
    assert offered is not None
    assert offered.headers == other
    mend = offered.mend("batchrunner doctor")
    assert [part for part in words_ if part not in mend] == []
    assert mend.endswith(f"the header: batchrunner doctor {offered.option}")
    assert "k1" not in mend


def test_a_key_in_another_header_has_no_other_form() -> None:
    """Where neither of the two carries it, nothing is tried."""
    assert other_form(profile("openai"), Credential("k1", "X"), {"api-key": "k1"}) is None


def test_the_key_check_never_shows_the_key() -> None:
    """Where it is from, how long it is, and no more."""
    it = sheet()
    put_key(
        it, profile("anthropic"), Credential("sk-ant-secret", "ANTHROPIC_API_KEY"), ["Stripped."],
        host="h", is_own=True,
    )  # fmt: skip
    check = found(it, "key")
    assert check.status is WARN
    assert "ANTHROPIC_API_KEY: 13 characters" in check.detail
    assert "sk-ant-secret" not in repr(check)


# --- the sheet


def test_after_a_failure_the_rest_names_it() -> None:
    """Checks that could not be made are skipped and say which failure is before them."""
    it = sheet()
    it.put("configuration", OK, "fine")
    it.put("key", FAIL, "bad", exit_code=4)
    it.put("dns", FAIL, "unknown", exit_code=6)
    it.put("clock", OK, "right")
    checks = it.checks()
    assert [check.check for check in checks] == list(WAY)
    assert found(it, "tcp").detail == "not reached: dns failed"
    assert found(it, "clock").status is OK
    assert exit_code_of(checks) == 4


def test_every_place_is_a_check() -> None:
    """A failure is never written where nobody looks."""
    assert set(PLACES.values()) <= set(WAY)


def test_the_first_failure_is_the_exit_code() -> None:
    """Warnings and skips cost nothing."""
    it = sheet()
    it.put("tls", WARN, "soon", exit_code=6)
    assert exit_code_of(it.checks()) == 0


@pytest.mark.parametrize(
    ("fix", "told"),
    [
        ("Check it, then run resume.", "Check it, then run doctor again."),
        ("Is it right? Then run resume.", "Is it right? Then run doctor again."),
        ("batchrunner resume --ca-file FILE", "batchrunner doctor --ca-file FILE"),
        ("do so, then: batchrunner resume", "do so, then: batchrunner doctor"),
        ("batchrunner resume --set model=NAME", "batchrunner resume --set model=NAME"),
        ("batchrunner resume tickets", "batchrunner resume tickets"),
        (
            "export X='…' && batchrunner resume  # or so",
            "export X='…' && batchrunner doctor  # or so",
        ),
    ],
)
def test_a_mend_of_a_run_becomes_one_of_doctor(fix: str, told: str) -> None:
    """Whoever examines the way examines it again; what only a run can do stays."""
    it = sheet()
    put_refusal(it, "key", UsageError("x", fix=fix))
    assert found(it, "key").fix == told


# --- advice


def test_advice_names_the_nearest_and_says_that_it_asked() -> None:
    """One command that can be pasted, and the one request behind it."""
    said = words(listing("claude-haiku-4-5", "claude-opus-4-5"), ["claude-haiku-4.5"], "tickets")
    assert said.endswith("): batchrunner resume tickets --set model=claude-haiku-4-5")
    assert "asked for once just now and counted" in said
    # An apostrophe or a comment after the command holds some shells up.
    assert "#" not in said


def test_advice_keeps_what_else_would_mend_it() -> None:
    """The name takes the place of NAME; asking for access stays."""
    fix = "Ask for access, or give another: batchrunner resume --set model=NAME"
    models = Listing(models=(Listed(name="gpt-5"), Listed(name="gpt-5-mini")))
    said = words(models, ["gpt-5-mini"], "r", instead_of=fix)
    assert said.startswith("Ask for access, or give another (nearest to gpt-5-mini: gpt-5: ")
    assert said.endswith("): batchrunner resume r --set model=gpt-5")


def test_advice_for_a_listed_model_names_others() -> None:
    """A model that is listed and refused is not offered again; its end of life is told."""
    models = Listing(
        models=(Listed(name="m-1", life="retired", date="2026-01-01"), Listed(name="m-2"))
    )
    said = words(models, ["m-1"], "r")
    assert "--set model=m-2" in said
    assert "m-1 is retired" in said


def test_advice_without_a_near_name_lists_what_there_is() -> None:
    """No guess is made; the names are shown."""
    said = words(listing("aaa", "bbb"), ["zzz-9"], "r")
    assert "--set model=NAME" in said
    assert "aaa, bbb" in said


def test_an_empty_list_gives_no_advice() -> None:
    """Then what the run said stands."""
    assert words(listing(), ["m"], "r") == ""


# --- the ledger


def _allowance(db: Database, **more: Any) -> Allowance:
    return Allowance(
        db, provider="anthropic", account_key="k", day_zone="UTC", pool_of=pool_of, **more
    )


def _used(db: Database) -> int:
    with db.read() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT coalesce(sum(n), 0) FROM usage_slot WHERE grain = 60000"
            ).scalar_one()
        )


async def test_an_unknown_account_is_booked_only_where_it_is_made(tmp_path: Path) -> None:
    """Nothing is asked of a ledger that does not know the account, unless it shall."""
    db = FileDatabase.open(tmp_path / "b.db", create=True)
    first, second = Errand(), Errand()
    await _allowance(db).gate(first)
    await _allowance(db, makes_account=True).gate(second)
    assert (first.is_booked, second.is_booked, _used(db)) == (False, True, 1)


async def test_a_slow_disk_moves_a_request_and_counts_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that outlasts the instant moves the request to a later one; its slot is given back."""
    db = FileDatabase.open(tmp_path / "b.db", create=True)
    stored = allowance._store
    naps = iter([0.3, 0.3])

    def slowly(*args: Any) -> None:
        stored(*args)
        time.sleep(next(naps, 0.0))

    monkeypatch.setattr(allowance, "_store", slowly)
    errand = Errand()
    await _allowance(db, makes_account=True).gate(errand)
    assert (errand.refusal, _used(db)) == ("", 1)
    assert next(naps, None) is None


async def test_a_limit_refuses_with_the_time_of_its_end(tmp_path: Path) -> None:
    """A day that is used up lets nothing go, books nothing, and says until when."""
    db = FileDatabase.open(tmp_path / "b.db", create=True)
    account = caps.scope_for(db, "anthropic", "k")
    caps.set_limit(db, account, "rpd", 1, now_ms=AT)
    await _allowance(db).gate(Errand())
    refused = Errand()
    with pytest.raises(Aborted):
        await _allowance(db).gate(refused)
    assert "admit no request before" in refused.refusal
    assert _used(db) == 1


async def test_requests_in_flight_at_a_crash_are_waited_for(tmp_path: Path) -> None:
    """What a dead process had in flight may be booked too early: nothing goes beside it for a while."""
    db = FileDatabase.open(tmp_path / "b.db", create=True)
    caps.scope_for(db, "anthropic", "k")
    with db.write() as connection:
        connection.exec_driver_sql("INSERT INTO model (id, name) VALUES (1, 'm')")
        connection.exec_driver_sql(
            "INSERT INTO run (id, uid, name, state, provider, created_at)"
            " VALUES (1, 'u', 'r', 'ready', 'anthropic', 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO job (id, run_id, key, model_id, state, claims, claimed_at)"
            " VALUES (1 << 32 | 1, 1, 'a', 1, 'running', 1, ?)",
            (int(time.time() * 1000),),
        )
    errand = Errand()
    with pytest.raises(Aborted):
        await _allowance(db).gate(errand)
    assert "died a moment ago" in errand.refusal


# --- this machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of its own."""
    return tmp_path


async def test_no_database_is_no_fault_and_stays_so(folder: Path) -> None:
    """Nothing is created by looking."""
    checks = await examine_machine(folder / "b.db")
    assert [(check.check, check.status) for check in checks] == [("database", OK), ("disk", OK)]
    assert list(folder.iterdir()) == []


async def test_a_sound_database_says_how_large_and_who_sends(folder: Path) -> None:
    """It opens, is whole, and nobody is on it; looking leaves no file behind."""
    FileDatabase.open(folder / "b.db", create=True)
    (check, _) = await examine_machine(folder / "b.db")
    assert check.status is OK
    assert "is sound" in check.detail
    assert "nobody sends on it" in check.detail
    assert [path.name for path in folder.iterdir()] == ["b.db"]


async def test_a_damaged_database_fails(folder: Path) -> None:
    """Pages that were overwritten are found: exit 5, with the way back."""
    path = folder / "b.db"
    FileDatabase.open(path, create=True)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 8))
    (check, _) = await examine_machine(path)
    assert (check.status, check.exit_code) == (FAIL, ExitCode.DATABASE)
    assert "damaged" in check.detail
    assert "backup" in check.fix


async def test_a_database_that_another_program_locks_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be stored: exit 5, with what to close."""
    path = folder / "b.db"
    pragmas = (("busy_timeout", "100"), *connecting.PRAGMAS[1:])
    FileDatabase.open(path, create=True)
    monkeypatch.setattr(connecting, "PRAGMAS", pragmas)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        (check, _) = await examine_machine(path)
    finally:
        other.close()
    assert (check.status, check.exit_code) == (FAIL, ExitCode.DATABASE)
    assert "locked by another kind of program" in check.detail
    assert "Close the program" in check.fix


async def test_another_programs_file_fails(folder: Path) -> None:
    """A file that is no database of ours is told, and left alone."""
    path = folder / "b.db"
    path.write_text("x" * 4096)
    (check, _) = await examine_machine(path)
    assert (check.status, check.exit_code) == (FAIL, ExitCode.DATABASE)
    assert path.read_text() == "x" * 4096


async def test_a_database_on_the_network_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks can't be trusted nothing is opened."""
    FileDatabase.open(folder / "b.db", create=True)
    monkeypatch.setattr(inspection, "network_file_system", lambda _folder: "nfs4")
    (check, _) = await examine_machine(folder / "b.db")
    assert check.status is FAIL
    assert "nfs4" in check.detail


@pytest.mark.parametrize(
    ("free", "status"),
    [(2_000_000_000, OK), (900_000_000, WARN), (1_000_000, FAIL)],
)
async def test_a_disk_that_fills_up_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: CheckStatus
) -> None:
    """Below a gigabyte it warns, and with next to nothing it fails."""
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _place: usage)
    (_, check) = await examine_machine(folder / "b.db")
    assert check.status is status
    assert bool(check.fix) == (status is not OK)


async def test_a_folder_that_is_not_there_fails(folder: Path) -> None:
    """submit could not make a database there; that is told before."""
    (check, _) = await examine_machine(folder / "no" / "b.db")
    assert (check.status, check.exit_code) == (FAIL, ExitCode.DATABASE)


# --- the table


def _view(check: str, status: CheckStatus, detail: str, **more: Any) -> CheckView:
    return CheckView(check=check, status=status, detail=detail, **more)


def _table(checks: Sequence[CheckView], *, symbols: bool = True) -> list[str]:
    return [click.unstyle(line) for line in lines(checks, width=80, symbols=symbols)]


def test_the_table_fits_and_keeps_commands_whole() -> None:
    """No line but one with a long command is wider than the terminal, and commands are never broken."""
    command = "batchrunner resume tickets --set model=claude-haiku-4-5-20251001"
    table = _table(
        [
            _view("configuration", OK, "word " * 40),
            _view("model", FAIL, "there is none", fix=f"Say it anew with {command}", took_ms=12.3),
        ]
    )
    assert any(command in line for line in table)
    assert [line for line in table if len(line) > 80 and command not in line] == []
    assert "there is none (12 ms)" in "\n".join(table)


def test_checks_skipped_alike_stand_together() -> None:
    """What a failure kept from being looked at takes one line."""
    table = _table([_view(name, SKIP, "not reached: dns failed") for name in ("tcp", "tls")])
    assert table == ["· skip  2 checks  tcp, tls: not reached: dns failed"]


def test_words_stand_beside_symbols() -> None:
    """Nothing is told by colour or by a sign alone, and a plain terminal gets plain signs."""
    table = _table([_view("dns", FAIL, "x"), _view("tcp", OK, "y")], symbols=False)
    assert [line[:6] for line in table] == ["x fail", "+ ok  "]


def test_several_addresses_have_headings() -> None:
    """Each address and the machine are told apart."""
    table = _table(
        [
            _view("configuration", OK, "a", base_url="https://a"),
            _view("configuration", OK, "b", base_url="https://b"),
            _view("disk", OK, "c"),
        ]
    )
    assert [line for line in table if line.endswith(":")] == [
        "https://a:",
        "https://b:",
        "this machine:",
    ]


def test_every_kind_of_failure_has_a_place() -> None:
    """Kinds without one of their own are about HTTP."""
    assert {PLACES.get(kind, "http") for kind in ErrorKind} <= set(WAY)

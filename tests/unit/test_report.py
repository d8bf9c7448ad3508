"""``report``: the numbers are the log's, the page runs nothing, and what is foreign stays text."""

from __future__ import annotations

import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import pytest

from batchrunner.app import Batchrunner
from batchrunner.errors import UsageError
from batchrunner.formats.charts import Bar, Series, bars, scale
from batchrunner.formats.report import page
from batchrunner.models import RunId
from batchrunner.store.database import Database
from batchrunner.store.report import _Gathered, sends
from batchrunner.store.runs import driver
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.views import Timeline
from tests.unit.stored import NOW, database, line, lines, load, put, run

HOSTILE = "<script>alert('x')</script>\"&\u202egnp"
#: What a page may be made of.
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "span", "b",
    "ul", "li", "small", "bdi", "table", "tr", "th", "td", "svg", "g", "rect", "line",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        """Read it."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and its attributes."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def log(
    db: Database, run_id: RunId, rows: list[tuple[int, int, int, int, str, str | None]]
) -> None:
    """Store sends: (place, claim, sent at ms, ended at ms, outcome, kind)."""
    with db.write() as connection:
        conn = driver(connection)
        conn.execute(
            "INSERT OR IGNORE INTO scope (id, kind, provider, key)"
            " VALUES (1, 'account', 'anthropic', 'k')"
        )
        conn.executemany(
            "INSERT INTO send (job_id, claim, scope_id, planned_at, sent_at, ended_at, outcome, kind)"
            " VALUES (?, ?, 1, 0, ?, ?, ?, ?)",
            [
                (run_id << 32 | place, claim, NOW + sent, NOW + ended, outcome, kind)
                for place, claim, sent, ended, outcome, kind in rows
            ],
        )


def told(db: Database, run_id: RunId) -> Timeline:
    """Return the timeline of a run that has one."""
    found = sends(db, run(db, run_id))
    assert found is not None
    return found


def test_numbers_are_those_of_the_log(tmp_path: Path) -> None:
    """Spans count what ended in them and what was under way; what nothing was under way for is idle."""
    db = database(tmp_path)
    run_id = load(db, lines(4))
    log(db, run_id, [
        (1, 1, 0, 400, "rate_limited", "rate_limited"),
        (1, 2, 50_000, 52_000, "completed", None),
        (2, 1, 500, 1_500, "completed", None),
        (3, 1, 99_000, 100_000, "failed", "invalid_request"),
    ])  # fmt: skip
    time = told(db, run_id)
    assert (time.began_at, time.ended_at, time.width_s) == (NOW, NOW + 100_000, 2)
    ended = {
        (span.at - NOW) // 1000: (span.completed, span.failed, span.again) for span in time.spans
    }
    assert {at: counts for at, counts in ended.items() if any(counts)} == {
        0: (1, 0, 1), 52: (1, 0, 0), 100: (0, 1, 0),
    }  # fmt: skip
    flow = {(span.at - NOW) // 1000: span.in_flight for span in time.spans if span.in_flight}
    assert flow == {0: 0.7, 50: 1.0, 98: 0.5}
    assert time.idle_s == pytest.approx(100 - 0.4 - 2 - 1 - 1, abs=0.2)
    assert time.outcomes == {"completed": 2, "rate_limited": 1, "invalid_request": 1}
    assert time.slowest == [("k1", 2_000), ("k2", 1_000)]


def test_percentiles_are_right_to_a_twentieth(tmp_path: Path) -> None:
    """Of latencies from 1 to 1,000 ms the percentiles are what they are called, the longest exactly."""
    db = database(tmp_path)
    run_id = load(db, lines(1_000))
    log(db, run_id, [(ms, 1, 0, ms, "completed", None) for ms in range(1, 1_001)])
    found = told(db, run_id).latencies
    assert found is not None
    assert found.p50 == pytest.approx(500, rel=0.05)
    assert found.p90 == pytest.approx(900, rel=0.05)
    assert found.p99 == pytest.approx(990, rel=0.05)
    assert found.longest == 1_000
    assert sum(n for _, _, n in found.bars) == 1_000


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Three times the sends take no more memory."""
    db = database(tmp_path)
    peaks = []
    for name, n in (("small", 5_000), ("large", 15_000)):
        run_id = load(db, lines(n), name, name.encode())
        log(
            db, run_id, [(i, 1, i * 100, i * 100 + 900, "completed", None) for i in range(1, n + 1)]
        )
        stored = run(db, run_id)
        tracemalloc.start()
        time = sends(db, stored)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert time is not None
        assert sum(span.completed for span in time.spans) == n
        assert len(time.spans) <= 97
    assert peaks[1] < peaks[0] * 1.5


def hostile(tmp_path: Path) -> tuple[Batchrunner, str]:
    """Return an application whose run is full of foreign text, and that run's name."""
    db = database(tmp_path)
    name = f"run {HOSTILE}"
    jobs = [line(f"{HOSTILE}-{i}", model=f"m{HOSTILE}") for i in range(3)]
    run_id = load(db, jobs, name)
    put(db, run_id, [(1, "completed"), (2, "failed"), (3, "failed")])
    with db.write() as connection:
        driver(connection).execute("UPDATE response SET error_message = ?", (HOSTILE * 50,))
        driver(connection).execute("UPDATE run SET provider = 'anthropic', cost_usd = 1.5")
    log(db, run_id, [(1, 1, 0, 900, "completed", None), (2, 1, 0, 50, "failed", HOSTILE)])
    return Batchrunner(db.path, environ={}), name


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    """Names, keys, models, kinds and messages with markup make no tag, and turn no line around."""
    app, name = hostile(tmp_path)
    text = page(app.report(name))
    seen = Page(text)
    assert seen.tags <= TAGS
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert seen.attributes.isdisjoint({"src", "href", "srcdoc", "action", "formaction"})
    assert "\u202e" not in text
    assert "</style" not in text[: text.index("</style>")]
    said = "".join(seen.texts)
    for place in ("run ", "m"):
        assert f"{place}<script>alert('x')</script>" in said
    assert max(map(len, seen.texts[1:])) < 5_000


def test_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No script, no address, and a policy that forbids both."""
    app, name = hostile(tmp_path)
    text = page(app.report(name))
    assert "default-src 'none'" in text
    for word in ("http://", "https://", "//cdn", "@import", "url(", "<script"):
        assert word not in text
    assert "prefers-color-scheme:dark" in text


def test_unknown_cost_is_unknown(tmp_path: Path) -> None:
    """A run whose cost nobody knows says so; one with a cost shows it."""
    app, name = hostile(tmp_path)
    assert "$1.50" in page(app.report(name))
    with FileDatabase.open(app.place, create=False).write() as connection:
        driver(connection).execute("UPDATE run SET cost_usd = NULL")
    assert '<b>unknown</b><span class="soft">cost</span>' in page(app.report(name))


def test_run_without_a_send_has_a_page(tmp_path: Path) -> None:
    """A run that has not begun is reported as such."""
    db = database(tmp_path)
    load(db, lines(2))
    text = page(Batchrunner(db.path, environ={}).report())
    assert "Nothing was sent." in text
    assert '<b>2</b><span class="soft">left</span>' in text


def test_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    """-o leaves a file that is there, and --force replaces it; the file is its owner's alone."""
    app, name = hostile(tmp_path)
    target = tmp_path / "report.html"
    with (tmp_path / "out").open("wb") as out:
        app.write_report(name, out, output=target)
        assert target.stat().st_mode & 0o777 == 0o600
        with pytest.raises(UsageError, match="is there already"):
            app.write_report(name, out, output=target)
        app.write_report(name, out, output=target, force=True)
        app.write_report(None, out)
    assert (tmp_path / "out").read_bytes().startswith(b"<!doctype html>")


def test_send_that_goes_on_meanwhile_is_counted_at_the_end() -> None:
    """A job that is sent while the log is read breaks no chart."""
    gathered = _Gathered(NOW, NOW + 5_000)
    gathered.add(1, 1, NOW + 7_000, NOW + 9_000, "completed", None)
    assert sum(span.completed for span in gathered.timeline([]).spans) == 1


@pytest.mark.parametrize(
    ("most", "top"), [(0, 1), (0.7, 0.8), (1, 1), (11, 20), (880, 1000), (2_600, 3000)]
)
def test_axis_ends_in_a_round_number(most: float, top: float) -> None:
    """The top of an axis holds the highest bar and can be halved."""
    assert scale(most) == pytest.approx(top)


def test_bars_stack_up_to_the_axis() -> None:
    """A bar's parts stand on each other, and its words are escaped."""
    chart = bars(HOSTILE, (Series("a", "A"), Series("b", "B")), [Bar((1, 1), HOSTILE)], ["x"])
    assert 'y="50.00" width="8.80" height="50.00"' in chart
    assert 'y="0.00" width="8.80" height="50.00"' in chart
    assert "<script" not in chart

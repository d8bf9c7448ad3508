"""What a file becomes: a run, the same run again, an updated one, a refusal that stores nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from batchrunner import intake
from batchrunner.models import JobLine, LineFault, RunState
from batchrunner.options import CallOptions, RunOptions
from batchrunner.store.load import Loader
from tests.fakes import ApiServer
from tests.integration.house import House


def test_the_same_content_continues_and_pays_for_nothing_twice(
    house: House, api: ApiServer
) -> None:
    """The same content under another file and another name is the same run: a finished one sends nothing and gives its code."""
    house.jobs(3)
    house.submit()
    house.jobs(3, "copy.jsonl")
    for args in ((), ("--name", "other")):
        done = house.submit(*args, file="copy.jsonl")
        assert "jobs" in done.err
        assert [event["run"]["name"] for event in done.named("run.stored")] == ["jobs"]
    assert len(api.requests()) == 3
    assert [run.name for run in house.app.runs()] == ["jobs"]


def test_the_same_content_gives_the_old_exit_code(house: House, api: ApiServer) -> None:
    """Submitting a finished run with failures again exits 1 and sends nothing."""
    api.script([{"contains": "say j1;", "status": 400, "body": "no"}])
    house.jobs(3)
    house.submit(code=1)
    house.submit(code=1)
    assert len(api.requests()) == 3


def test_the_same_content_goes_on_where_it_stopped(house: House, api: ApiServer) -> None:
    """Submitting an unfinished run again sends only what is left."""
    house.jobs(5)
    house.submit("--rpd", "2", "--no-wait", code=3)
    house.submit("--rpd", "none")
    prompts = [r.prompt for r in api.requests()]
    assert len(prompts) == len(set(prompts)) == 5


def test_new_makes_a_run_beside(house: House, api: ApiServer) -> None:
    """--new sends the same again, as NAME-2."""
    house.jobs(2)
    house.submit()
    house.submit("--new")
    assert sorted(run.name for run in house.app.runs()) == ["jobs", "jobs-2"]
    assert len(api.requests()) == 4


def test_a_name_with_other_content_is_refused_with_counts(house: House, api: ApiServer) -> None:
    """The same name with other content exits 2, says what differs, offers the ways on, and stores nothing."""
    house.jobs(3)
    house.submit()
    house.write(
        "jobs.jsonl",
        [
            {"id": "j0", "prompt": "say j0;"},
            {"id": "j1", "prompt": "changed"},
            {"id": "n1", "prompt": "new"},
            {"id": "n2", "prompt": "new"},
        ],
    )
    done = house.submit(code=2)
    for words in ("jobs: 1 the same", "1 changed", "2 new", "1 gone"):
        assert words in done.error["message"]
    for option in ("--update", "--name", "--new"):
        assert option in done.error["fix"]
    assert [run.jobs.total for run in house.app.runs()] == [3]
    assert len(api.requests()) == 3


def test_update_takes_the_file_into_the_run(house: House, api: ApiServer) -> None:
    """--update adds new keys at the end, resets what was not completed, keeps answers, and shows the counts."""
    api.script([{"contains": "say j2;", "status": 400, "body": "no"}])
    house.jobs(3)
    house.submit(code=1)
    house.write(
        "jobs.jsonl",
        [
            {"id": "n1", "prompt": "new one"},
            {"id": "j0", "prompt": "say j0;"},
            {"id": "j1", "prompt": "changed"},
            {"id": "j2", "prompt": "mended"},
        ],
    )
    api.script([])
    done = house.submit("--update")
    for words in ("1 the same", "2 changed", "1 new", "0 gone", "already answered"):
        assert words in done.err
    assert [r.prompt for r in api.requests()[3:]] in (["mended", "new one"], ["new one", "mended"])
    rows = house.rows()
    assert list(rows) == ["j0", "j1", "j2", "n1"]
    assert {job.status for job in rows.values()} == {"completed"}
    assert json.loads(house.show("j1").request or b"")["messages"][0]["content"] == "say j1;"
    assert rows["j2"].attempts == 1


def test_bad_lines_store_nothing_and_are_all_named(house: House, api: ApiServer) -> None:
    """Any invalid line exits 2 with every faulty line's number and reason, and no run is stored."""
    house.jobs(2)
    path = house.folder / "jobs.jsonl"
    path.write_text(path.read_text() + '{"id": "j0", "prompt": "again"}\nnot json\n{"x": 1}\n')
    done = house.submit(code=2)
    assert [line["line"] for line in done.error["lines"]] == [3, 4, 5]
    assert all(line["reason"] for line in done.error["lines"])
    assert not house.db.exists()
    assert api.requests() == []


def test_skip_invalid_stores_the_good_ones(house: House, api: ApiServer) -> None:
    """--skip-invalid runs the good lines, writes the others with reasons to NAME.rejects.jsonl, and exits 1."""
    house.jobs(2)
    path = house.folder / "jobs.jsonl"
    path.write_text(path.read_text() + "not json\n" + '{"id": "j0", "prompt": "again"}\n')
    done = house.submit("--skip-invalid", code=1)
    assert len(api.requests()) == 2
    rejects = [
        json.loads(line) for line in (house.folder / "jobs.rejects.jsonl").read_text().splitlines()
    ]
    assert [(row["line"], row["text"]) for row in rejects] == [
        (3, "not json"),
        (4, '{"id": "j0", "prompt": "again"}'),
    ]
    assert all(row["reason"] for row in rejects)
    assert "2 lines" in done.err
    assert house.status().state is RunState.FINISHED


def test_few_long_lines_are_stored_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held before it is stored is bounded by bytes too: long lines go in small chunks."""
    chunks: list[int] = []
    add = Loader.add

    def counted(loader: Loader, chunk: Sequence[JobLine]) -> list[LineFault]:
        chunks.append(sum(len(job.body) for job in chunk))
        return add(loader, chunk)

    monkeypatch.setattr(Loader, "add", counted)
    monkeypatch.setattr(intake, "CHUNK_BYTES", 50_000)
    house.jobs(40, system="x" * 10_000)
    where = RunOptions(provider="anthropic", base_url=house.url, model="sim-1")
    file = str(house.folder / "jobs.jsonl")
    asyncio.run(house.app.submit([file], run=where, call=CallOptions(no_run=True)))
    assert len(chunks) == 8
    assert max(chunks) < 2 * 50_000
    assert house.counts().pending == 40


@pytest.mark.parametrize("is_stdin", [False, True], ids=["file", "stdin"])
def test_rejects_never_take_the_place_of_the_input(house: House, is_stdin: bool) -> None:
    """A run whose rejects file would be the file that is read is refused, and the file stays."""
    path = house.folder / "foo.rejects.jsonl"
    text = '{"file":"a","line":1,"reason":"what one of ours begins with"}\n{"prompt": "say a;"}\n'
    path.write_text(text)
    args = ("--name", "foo", "--skip-invalid", "--no-run", *house.to_api)
    if is_stdin:
        with path.open("rb") as stdin:
            done = house.run("submit", "-", *args, code=2, stdin=stdin)
    else:
        done = house.run("submit", path.name, *args, code=2)
    assert "foo.rejects.jsonl, which is a file that is being read. Nothing was stored." in done.err
    assert path.read_text() == text


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_files_of_each_kind_are_one_input(house: House, api: ApiServer, ending: str) -> None:
    """Plain, .gz and .zst files are read, and several are one input in the order given."""
    first = house.jobs(2, "one.jsonl", prefix="a")
    second = house.jobs(2, "two.jsonl", prefix="b")
    packs: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": zstandard.compress,
    }
    packed = Path(f"{second}{ending}")
    packed.write_bytes(packs[ending](second.read_bytes()))
    house.run("submit", first.name, packed.name, *house.to_api)
    assert list(house.rows("one")) == ["a0", "a1", "b0", "b1"]
    assert len(api.requests()) == 4


def test_stdin_is_read(house: House, api: ApiServer) -> None:
    """`submit -` reads stdin, and the run is named as told."""
    data = house.jobs(3).read_bytes()
    house.submit("--name", "piped", file="-", stdin=data)
    assert house.counts("piped").completed == 3


def test_keys_are_made_where_there_are_none(house: House) -> None:
    """Lines without an id are line-N, counted with the blank ones, over all files."""
    (house.folder / "a.jsonl").write_text('\ufeff{"prompt":"x"}\r\n\r\n{"prompt":"y"}\r\n')
    (house.folder / "b.jsonl").write_text('{"prompt":"z"}')
    house.run("submit", "a.jsonl", "b.jsonl", *house.to_api)
    assert list(house.rows()) == ["line-1", "line-3", "line-4"]


def test_set_replaces_a_field_in_what_is_still_to_be_sent(house: House, api: ApiServer) -> None:
    """resume --set changes only jobs not yet sent, by a dotted path, and what is stored is what was sent."""
    house.jobs(4)
    house.submit("--rpd", "2", "--no-wait", code=3)
    house.resume("--rpd", "none", "--set", 'metadata.user_id="u1"', "--set", "max_tokens=5")
    bodies = [r.json for r in api.requests()]
    assert [body["max_tokens"] for body in bodies] == [4096, 4096, 5, 5]
    assert [body.get("metadata") for body in bodies] == [None, None] + [{"user_id": "u1"}] * 2
    assert json.loads(house.show("j3").request or b"")["max_tokens"] == 5


def test_what_lines_leave_out_is_filled_in(house: House, api: ApiServer) -> None:
    """--model, --max-tokens and --system @FILE fill gaps; what a line says itself stays."""
    (house.folder / "system.txt").write_text("Be brief.")
    house.write(
        "jobs.jsonl",
        [
            {"id": "a", "prompt": "p"},
            {"id": "b", "prompt": "q", "model": "sim-1-large", "max_tokens": 7, "system": "Own."},
        ],
    )
    house.submit("--max-tokens", "99", "--system", "@system.txt")
    first, second = (r.json for r in sorted(api.requests(), key=lambda r: r.prompt))
    assert (first["model"], first["max_tokens"], first["system"]) == ("sim-1", 99, "Be brief.")
    assert (second["model"], second["max_tokens"], second["system"]) == ("sim-1-large", 7, "Own.")


def test_no_run_only_stores(house: House, api: ApiServer) -> None:
    """--no-run stores and exits 0; nothing is sent and no network is needed."""
    house.jobs(3)
    house.submit("--no-run")
    assert (house.status().state, house.counts().pending) == (RunState.READY, 3)
    assert api.requests() == []


def test_an_unknown_provider_of_the_lines_is_asked_for(house: House) -> None:
    """Lines that do not say where they go exit 2 and name --provider."""
    house.jobs(1, model="my-own-model")
    done = house.run("submit", "jobs.jsonl", "--json", code=2)
    assert "--provider" in done.error["message"] + done.error["fix"]


def test_options_typed_are_stored_with_the_run(house: House, api: ApiServer) -> None:
    """resume needs no option again: address, attempts and header are the run's."""
    house.jobs(2)
    house.submit("--no-run", "-H", "X-Team: blue", "--max-attempts", "1")
    api.script([{"contains": "say j1;", "status": 408}, {"n": 1}])
    house.resume(code=1)
    assert {r.headers["x-team"] for r in api.requests()} == {"blue"}
    assert house.rows()["j1"].attempts == 1


def test_a_header_whose_variable_is_not_set_stores_nothing(house: House, api: ApiServer) -> None:
    """A typed ``${VAR}`` that is not set is refused before anything is stored or sent (exit 2)."""
    house.jobs(2)
    done = house.submit("-H", "X-Team: ${NOT_SET_ANYWHERE}", code=2)
    assert "NOT_SET_ANYWHERE" in done.error["message"]
    assert not api.requests()
    assert not (house.folder / "batchrunner.db").exists()

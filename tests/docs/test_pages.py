"""The pages say what the program does: blocks run, files submit, commands and kinds are all there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from batchrunner.app import Batchrunner
from batchrunner.checkup.sheet import MACHINE, WAY
from batchrunner.cli import main
from batchrunner.cli.root import COMMANDS
from batchrunner.formats.rows import COLUMNS
from batchrunner.models import ErrorKind
from batchrunner.options import CallOptions, RunOptions
from tests.docs.test_help import commands

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")])
#: Sample → how its README submits it, without the address.
SAMPLES = {
    "classify-tickets": RunOptions(provider="simulator", model="sim-1"),
    "extract-invoices": RunOptions(provider="anthropic"),
    "translate-ui": RunOptions(provider="openai"),
    "embed-faq": RunOptions(provider="openai"),
    "http-geocode": RunOptions(provider="http", base_url="http://127.0.0.1:8787"),
}


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def calls(text: str) -> list[list[str]]:
    """Return the calls of ``batchrunner`` in shell blocks, in words."""
    lines = "\n".join(blocks(text, "sh")).splitlines()
    parts = [part for line in lines for part in line.split(" && ")]
    words = [shlex.split(part) for part in parts if part.strip()]
    return [call[1:] for call in words if call[0].endswith("batchrunner")]


def test_first_command_runs(tmp_path: Path) -> None:
    """The command that a newcomer copies first does what the README says, from the checkout."""
    (first, *_) = calls(README)
    assert first[0] == "submit"
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    done = subprocess.run(
        [sys.executable, "-m", "batchrunner", *first],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "tickets.csv").read_text().splitlines()
    assert len(rows) == 1 + 120
    assert all(",completed,1,200," in row for row in rows[1:])


def test_other_commands_store_the_jobs_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call in the README is one that the program takes, with the jobs that it shows."""
    monkeypatch.chdir(tmp_path)
    (jobs,) = blocks(README, "json")
    Path("jobs.jsonl").write_text(jobs)
    others = calls(README)[1:]
    assert others
    for words in others:
        assert main([*words, "--no-run", "-q"]) == 0
    assert Batchrunner("batchrunner.db").status().jobs.total == len(jobs.splitlines())


def test_one_command_runs_the_tests() -> None:
    """The README's second command is the script that CI runs, and it can be executed."""
    assert [".ci/run"] in [block.split() for block in blocks(README, "sh")]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_lines_shown_are_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example lines of formats.md are taken, each block for its provider."""
    monkeypatch.chdir(tmp_path)
    messages, http = blocks((ROOT / "docs" / "formats.md").read_text(), "json")
    Path("messages.jsonl").write_text(messages)
    Path("http.jsonl").write_text(http)
    stored = ["--no-run", "-q", "--base-url", "http://127.0.0.1:9"]
    anthropic = ["--provider", "anthropic", "--model", "claude-haiku-4-5"]
    assert main(["submit", "messages.jsonl", *anthropic, *stored]) == 0
    assert main(["submit", "http.jsonl", "--provider", "http", *stored]) == 0


@pytest.mark.parametrize("name", SAMPLES)
async def test_sample_submits(name: str, tmp_path: Path) -> None:
    """Each sample is stored whole, as its README submits it."""
    file = ROOT / "samples" / f"{name}.jsonl"
    app = Batchrunner(tmp_path / "b.db", environ={})
    result = await app.submit([str(file)], run=SAMPLES[name], call=CallOptions(no_run=True))
    assert result.run.jobs.total == result.run.jobs.pending == len(file.read_bytes().splitlines())


async def test_sample_with_a_template_submits(tmp_path: Path) -> None:
    """The table among the samples is stored whole through its template, with its own keys."""
    samples = ROOT / "samples"
    app = Batchrunner(tmp_path / "b.db", environ={})
    result = await app.submit(
        [str(samples / "summarize-reviews.csv")],
        run=RunOptions(provider="simulator", model="sim-1"),
        call=CallOptions(no_run=True, template=str(samples / "summarize-reviews.j2"), key="review"),
    )
    assert result.run.jobs.total == 99
    job = app.show(result.run.name, "R-001")
    assert b"Bergfink 45 l backpack" in (job.request or b"")


def test_every_sample_is_tried() -> None:
    """No sample is left out above."""
    assert {path.stem for path in (ROOT / "samples").glob("*.jsonl")} == set(SAMPLES)


def test_every_command_is_in_the_readme() -> None:
    """The table of commands has each command that there is, and no other."""
    table = set(re.findall(r"^\| `batchrunner ([a-z]+)", README, re.MULTILINE))
    assert table == set(COMMANDS)


def test_every_error_kind_is_explained() -> None:
    """Each kind of error has its row: what happened, what to do."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| .{10,} \| .{7,} \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(kind.value for kind in ErrorKind)


def test_every_check_of_doctor_is_explained() -> None:
    """The table of doctor.md has each check, in the order in which they are made."""
    text = (ROOT / "docs" / "doctor.md").read_text().partition("| check |")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == (*WAY, *MACHINE)


def test_every_column_is_explained() -> None:
    """The table of export columns names them all, in order."""
    text = (ROOT / "docs" / "formats.md").read_text().partition("| column |")[2]
    told = [
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert tuple(told) == COLUMNS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the repository leads to a file that is there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_named_exist(page: Path) -> None:
    """An option that a page shows in a call of the program is one that the program has."""
    known = {
        flag
        for _, command in commands()
        for param in command.params
        for flag in (*param.opts, *param.secondary_opts)
    } | {"--help"}
    shown = re.findall(r"batchrunner [a-z][^`\n]*", page.read_text())
    flags = {flag for call in shown for flag in re.findall(r"(?<=\s)--[a-z][a-z-]+", call)}
    assert flags - known == set()

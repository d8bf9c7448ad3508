"""What a failure prints, and the exit code it ends with."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from batchrunner.cli import main
from batchrunner.errors import (
    BatchrunnerError,
    BusyError,
    InputError,
    NetworkError,
    NoDatabaseError,
    RefusedError,
    StoppedError,
    UsageError,
)
from batchrunner.models import LineFault
from tests.fakes.application import FakeApplication, install


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApplication:
    """The application's stand-in."""
    return install(monkeypatch)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UsageError, 2),
        (NoDatabaseError, 2),
        (StoppedError, 3),
        (RefusedError, 4),
        (BusyError, 5),
        (NetworkError, 6),
    ],
)
def test_error_is_told_with_its_fix(
    app: FakeApplication,
    capsys: pytest.CaptureFixture[str],
    kind: type[BatchrunnerError],
    code: int,
) -> None:
    """Each of our errors has its exit code, its message and its fix, on stderr alone."""
    app.raises = kind("it broke \x1b[31m", fix="mend it")
    assert main(["status"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: it broke \\x1b[31m\nfix: mend it\n"


def test_error_is_an_object_under_json(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, wherever it stands, the failure object of CONTRACT §6 is on stdout."""
    app.raises = RefusedError("the key is refused", fix="check it", kind="authentication")
    for words in (["status", "--json"], ["--json", "submit", "f"]):
        assert main(words) == 4
        captured = capsys.readouterr()
        assert captured.err == ""
        assert json.loads(captured.out) == {
            "version": 1,
            "error": {
                "exit_code": 4,
                "kind": "authentication",
                "message": "the key is refused",
                "fix": "check it",
                "lines": [],
            },
        }


def test_faulty_lines_are_listed(app: FakeApplication, capsys: pytest.CaptureFixture[str]) -> None:
    """The first 20 faulty lines are named with file, line, reason and excerpt, the rest counted."""
    faults = [
        LineFault(file="a.jsonl", line=n, reason="bad JSON", excerpt='{"x"') for n in range(1, 26)
    ]
    app.raises = InputError("25 lines are invalid", faults=faults, n_faults=31, fix="mend them")
    assert main(["submit", "a.jsonl"]) == 2
    err = capsys.readouterr().err
    assert re.findall(r"a\.jsonl:(\d+): bad JSON", err) == [str(n) for n in range(1, 21)]
    assert err.count('{"x"') == 20
    assert "11 more" in err
    assert main(["submit", "a.jsonl", "--json"]) == 2
    lines = json.loads(capsys.readouterr().out)["error"]["lines"]
    assert lines[0] == {"file": "a.jsonl", "line": 1, "reason": "bad JSON"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["sumbit"], "did you mean 'submit'"),
        (["submit", "f", "--rmp", "5"], "--rpm"),
        (["jobs", "--status", "done"], "'completed'"),
        (["jobs", "--error", "oops"], "'rate_limited'"),
        (["submit"], "FILE"),
        (["db", "chek"], "check"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_usage_error_helps(capsys: pytest.CaptureFixture[str], words: list[str], hint: str) -> None:
    """A usage error exits 2, names what is valid, and where to read on."""
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert hint in err
    assert "--help" in err


def test_usage_error_is_an_object_under_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads usage errors as objects too."""
    assert main(["jobs", "--status", "done", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["exit_code"], error["kind"]) == (2, "usage")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt_is_130(app: FakeApplication, error: BaseException) -> None:
    """Ctrl-C outside of a run exits 130."""
    app.raises = error
    assert main(["status"]) == 130


def test_defect_goes_to_a_private_file(
    app: FakeApplication,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A defect exits 70 and names a file that only its owner can read, without the key."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret-value")
    app.raises = RuntimeError("boom with sk-ant-secret-value")
    assert main(["status"]) == 70
    err = capsys.readouterr().err
    (file,) = tmp_path.iterdir()
    assert str(file) in err
    assert "secret-value" not in err
    text = file.read_text()
    assert "RuntimeError: boom with [redacted]" in text
    assert "Traceback" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_full_disk_is_no_defect(app: FakeApplication, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk under the output exits 5 and says so."""
    app.raises = OSError(28, "No space left on device")
    assert main(["export"]) == 5
    assert "no space is left" in capsys.readouterr().err


_SCRIPT = textwrap.dedent(
    """
    import sys
    from types import ModuleType
    from tests.fakes.application import FakeApplication, JOB
    fake = FakeApplication()
    fake.jobs_of_run = [JOB] * 20_000
    module = ModuleType("batchrunner.app")
    module.Batchrunner = fake
    sys.modules["batchrunner.app"] = module
    from batchrunner.cli import main
    sys.exit(main(sys.argv[1:]))
    """
)


@pytest.mark.parametrize("words", [["jobs"], ["jobs", "--json"]])
def test_reader_that_leaves_is_no_error(words: list[str]) -> None:
    """``batchrunner jobs | head -1`` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (0, b"")


def test_full_device_is_told() -> None:
    """Output to a full device exits 5 with a sentence, and without a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, "jobs", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    assert done.returncode == 5
    assert b"no space is left" in done.stderr
    assert b"Traceback" not in done.stderr

"""The wheel holds what the program needs, and works in a fresh environment outside the tree.

Slow: it builds a wheel and installs it with its dependencies (``pytest -m slow tests/packaging``).
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Two jobs of the simplest shape.
JOBS = '{"prompt": "Say one.", "id": "one"}\n{"prompt": "Say two.", "id": "two"}\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*build, ROOT], check=True)
    (found,) = folder.glob("batchrunner-*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, installed from the wheel into an environment of its own."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel]
    subprocess.run(install, check=True)
    return home / "bin" / "batchrunner"


def run(program: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program in ``folder``, with none of our tree on its path and no key."""
    environ = {"PATH": os.defpath, "HOME": str(folder), "TERM": "dumb"}
    return subprocess.run(
        [program, *args], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def rows(file: Path) -> list[dict[str, str]]:
    """Return an export's rows."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_wheel_holds_what_the_program_needs(wheel: Path) -> None:
    """Migrations, the typing marker and the licence are in the wheel; tests and samples are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = Parser().parsestr(archive.read(metadata).decode())
    migrations = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    assert {f"batchrunner/migrations/versions/{name}" for name in migrations} <= set(names)
    assert {"batchrunner/migrations/env.py", "batchrunner/py.typed"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"batchrunner"}
    assert not [name for name in names if "__pycache__" in name]
    assert told["Requires-Python"] == ">=3.11"
    assert told.get_payload()


def test_installed_program_is_not_the_tree(program: Path, tmp_path: Path) -> None:
    """What is tried here is the wheel: the package lies in the fresh environment."""
    python = program.parent / "python"
    where = [python, "-c", "import batchrunner; print(batchrunner.__file__)"]
    told = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert program.parent.parent in Path(told.stdout.strip()).parents


def test_demo_runs_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    """The demo completes 200 jobs, leaves its CSV and no database."""
    done = run(program, tmp_path, "demo")
    assert done.returncode == 0, done.stderr
    assert re.search(r"200 of 200 jobs completed", done.stderr)
    assert {row["status"] for row in rows(tmp_path / "demo.csv")} == {"completed"}
    assert len(rows(tmp_path / "demo.csv")) == 200
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".csv"] == []


def test_submit_makes_the_database_and_the_results(program: Path, tmp_path: Path) -> None:
    """A first submit creates the database from the shipped migrations and writes the results."""
    (tmp_path / "jobs.jsonl").write_text(JOBS)
    simulator = ("--provider", "simulator", "--model", "sim-1")
    done = run(program, tmp_path, "submit", "jobs.jsonl", *simulator, "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert [(row["key"], row["status"]) for row in rows(tmp_path / "out.csv")] == [
        ("one", "completed"),
        ("two", "completed"),
    ]
    status = run(program, tmp_path, "status")
    assert "jobs" in status.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "batchrunner.db",
        "jobs.jsonl",
        "out.csv",
    ]
    assert run(program, tmp_path, "db", "check").returncode == 0

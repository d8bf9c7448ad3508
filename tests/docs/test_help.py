"""Every command is documented: help, examples that parse, and the options of the contract."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchrunner.cli import main
from batchrunner.cli.house import Command, Group
from batchrunner.cli.root import COMMANDS, root

RUN_OPTIONS = [
    "--provider",
    "--base-url",
    "--model",
    "--max-tokens",
    "--system",
    "--set",
    "-H",
    "--header",
    "--api-version",
    "--rpm",
    "--tpm",
    "--itpm",
    "--otpm",
    "--rpd",
    "--tpd",
    "--day-resets",
    "--account",
    "--min-interval",
    "-c",
    "--concurrency",
    "--priority",
    "--max-attempts",
    "--timeout",
    "--connect-timeout",
    "--max-time",
    "--max-failures",
    "--max-wait",
    "--wait",
    "--no-wait",
    "--no-run",
    "--max-response",
    "--expect-json",
    "-o",
]
FILTERS = ["--status", "--error", "--job", "--limit"]
GLOBALS = [
    "--db",
    "--config",
    "--profile",
    "--json",
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "--no-input",
    "-y",
    "--yes",
    "--log-file",
    "-h",
    "--help",
]

#: Command → the options that CONTRACT §1 and §3 give it.
OPTIONS = {
    "submit": [
        *RUN_OPTIONS,
        "--name",
        "--skip-invalid",
        "--update",
        "--new",
        "--template",
        "--key",
        "-n",
        "--dry-run",
    ],
    "plan": [
        *RUN_OPTIONS,
        "--name",
        "--skip-invalid",
        "--update",
        "--new",
        "--template",
        "--key",
    ],
    "resume": [*RUN_OPTIONS, "--all"],
    "retry": [*RUN_OPTIONS, *FILTERS],
    "doctor": [
        "--provider",
        "--base-url",
        "--model",
        "--proxy",
        "--ca-file",
        "--timeout",
        "--connect-timeout",
        "--live",
    ],
    "jobs": FILTERS,
    "export": [*FILTERS, "-f", "-o", "--force", "--columns", "--excel"],
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it, the program itself first."""
    yield "batchrunner", root
    context = click.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        yield f"batchrunner {name}", command
        if isinstance(command, click.Group):
            for inner, leaf in command.commands.items():
                yield f"batchrunner {name} {inner}", leaf


ALL = dict(commands())
EXAMPLES = [
    line
    for command in ALL.values()
    if isinstance(command, Command | Group)
    for line in command.examples
]


@pytest.mark.parametrize("words", ALL)
def test_command_has_help_and_examples(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of every command says what it does and ends with examples of itself."""
    assert main([*words.split()[1:], "--help"]) == 0
    text = capsys.readouterr().out
    assert ALL[words].help
    head, _, examples = text.partition("\nExamples:\n")
    assert "Usage:" in head
    assert examples.strip()
    assert all(words.split(maxsplit=1)[0] in line for line in examples.strip().splitlines())
    assert any(words in line for line in examples.splitlines())
    assert max(map(len, head.splitlines())) <= 80


@pytest.mark.parametrize("words", ALL)
def test_every_option_has_help(words: str) -> None:
    """No option is left without a word on it."""
    untold = [
        param.name
        for param in ALL[words].params
        if isinstance(param, click.Option) and not param.help
    ]
    assert untold == []


@pytest.mark.parametrize("line", EXAMPLES)
def test_example_parses(line: str) -> None:
    """The words of an example are accepted by the command they call."""
    args = shlex.split(
        line.rsplit("| ", maxsplit=1)[-1]
        .split(" > ", maxsplit=1)[0]
        .replace("@prompt.txt", "brief")
        .replace("label.schema.json", "true")
    )[1:]
    node: click.Command = root
    context = root.make_context("batchrunner", args)
    while isinstance(node, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            assert node.invoke_without_command
            break
        name, found, rest = node.resolve_command(context, rest)
        assert found is not None
        node, context = found, found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("name", OPTIONS)
def test_contract_option_exists(name: str) -> None:
    """Every option that the contract names is there."""
    known = {
        flag
        for param in ALL[f"batchrunner {name}"].params
        for flag in (*param.opts, *param.secondary_opts)
    }
    assert [flag for flag in OPTIONS[name] if flag not in known] == []


@pytest.mark.parametrize("words", ALL)
def test_global_options_exist_everywhere(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command takes the global options after its name."""
    assert main([*words.split()[1:], "-h"]) == 0
    text = capsys.readouterr().out
    assert [flag for flag in GLOBALS if flag not in text] == []


def test_list_says_what_the_commands_say() -> None:
    """The literal table of the list agrees with the commands' own short helps."""
    told = {name: ALL[f"batchrunner {name}"].short_help for name in COMMANDS}
    assert told == {name: entry.help for name, entry in COMMANDS.items()}


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the program and its version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("batchrunner 0.")


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]])
def test_help_loads_little(words: list[str]) -> None:
    """The help imports click and our list of commands, none of the libraries that take time."""
    script = (
        "import sys; from batchrunner.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'sqlalchemy', 'aiohttp', 'aiosqlite', 'alembic', 'rich', 'asyncio', 'msgspec', 'dataclasses'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout


def test_a_view_loads_no_http(tmp_path: Path) -> None:
    """What only looks at the database reads the configuration, and not the library that sends."""
    (tmp_path / "batchrunner.toml").write_text('proxy = "socks5h://127.0.0.1:1080"\n')
    script = (
        "import sys; from batchrunner.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'aiohttp', 'aiohttp_socks', 'truststore', 'keyring', 'jsonschema', 'alembic', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "status"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, "there is no database"
    assert done.stderr.splitlines()[-1] == "[]"

"""Configuration files: strict, each fault with its line, one over the other, bound to a provider."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchrunner.config import Config, load_config
from batchrunner.config.located import NotTomlError, read_toml
from batchrunner.errors import InputError, UsageError
from batchrunner.options import LimitOptions


class Folders:
    """A project's folder and a user's file."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.user = folder / "user" / "batchrunner.toml"
        self.project.mkdir()
        self.user.parent.mkdir()

    def write(self, project: str = "", user: str = "") -> None:
        """Write both files; nothing is no file."""
        for path, text in ((self.project / "batchrunner.toml", project), (self.user, user)):
            if text:
                path.write_text(text)

    def load(self, profile: str | None = None, **environ: str) -> Config:
        """Load them."""
        return load_config(folder=self.project, user=self.user, profile=profile, environ=environ)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Give empty folders."""
    return Folders(tmp_path)


def faults_of(folders: Folders, text: str) -> list[tuple[int, str]]:
    """Return what is said of a project's file, by line."""
    folders.write(text)
    with pytest.raises(InputError) as raised:
        folders.load()
    error = raised.value
    assert (error.exit_code, error.kind) == (2, "config")
    assert {fault.file for fault in error.faults} == {str(folders.project / "batchrunner.toml")}
    return [(fault.line, fault.reason) for fault in error.faults]


LOCATED = '''\
# a comment
rpm = 3
headers = { A = "b", "X-Y" = "c" }
list = [
  1,
# [not.a.table]
]

text = """
[nor.this]
rpd = 1
"""
[profiles.free]
rpm = 5
a.b = 2

[[providers.acme.rules]]
status = [400]
[[providers.acme.rules]]
status = [401]
[providers.acme.rules.sub]
z = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("rpm",), 2),
        (("headers", "X-Y"), 3),
        (("list",), 4),
        (("text",), 9),
        (("profiles",), 13),
        (("profiles", "free", "rpm"), 14),
        (("profiles", "free", "a", "b"), 15),
        (("providers", "acme", "rules", 0, "status"), 18),
        (("providers", "acme", "rules", 1, "status"), 20),
        (("providers", "acme", "rules", 1, "missing"), 19),
        (("providers", "acme", "rules", 1, "sub", "z"), 22),
        (("missing",), 1),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_key_has_its_line(path: tuple[str | int, ...], line: int, ending: str) -> None:
    """A key is on the line its statement begins on; what looks like one in a text is none."""
    assert read_toml(LOCATED.replace("\n", ending)).line_of(path) == line


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("rpm = \n", 1, "column 7"),
        ("a = 1\nb = [1,\n2", 3, "end of the file"),
        ("a = 1\n[b\n", 2, "column"),
        ("a = 1\na = 2\nb = 3\n", 2, "overwrite"),
    ],
)
def test_broken_toml_has_a_place(text: str, line: int, words: str) -> None:
    """What is no TOML is refused with line and column."""
    with pytest.raises(NotTomlError, match=words) as raised:
        read_toml(text)
    assert raised.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("rmp = 3", 1, "there is no key rmp; did you mean rpm?"),
        ("\nday-resets = 'UTC'", 2, "did you mean day_resets?"),
        ("rpm = true", 1, 'rpm is a truth value; write a whole number from 1, "none" or "auto"'),
        ("rpm = 0", 1, "'0' is no limit"),
        ("timeout = '5 parsecs'", 1, "is no duration: write 90, 90s, 2h30m or 3d"),
        ("timeout = 0", 1, "more than 0"),
        (f"priority = {9**30}", 1, "priority: '42391158275216203514294433201' is no whole number from"),
        (f"max_attempts = {9**30}", 1, "is no whole number from 1 to 999,999,999,999"),
        ("concurrency = 1.5", 1, "concurrency is a number; write a whole number from 1"),
        ("max_tokens = 0", 1, "from 1"),
        ("priority = 'high'", 1, "priority is a text; write a whole number"),
        ("max_failures = '200%'", 1, "neither a number of jobs"),
        ("max_response = 'big'", 1, "is no size"),
        ("model = ''", 1, "it is empty"),
        ("model = ['a']", 1, "model is a list; write a text"),
        ("day_resets = 'Amerika/Los_Angeles'", 1, "did you mean America/Los_Angeles?"),
        ("base_url = 'api.example'", 1, "is not one"),
        ("base_url = 'https://me:secret@host'", 1, "holds a credential"),
        ("headers = 'X: 1'", 1, "headers is a text; write a table of texts"),
        ("headers = {X = 1}", 1, "the value of X must be a text"),
        ("headers = {Authorization = 'Bearer s3cr3ts3cr3t'}", 1, "holds a credential; write ${VAR}"),
        ("api_key = 's3cr3ts3cr3t'", 1, "name a file that holds the key with key_file"),
        ("key_file = 'sk-ant-api03-s3cr3ts3cr3t'", 1, "it is no path but a key"),
        ("output = 'x.csv'", 1, "said with each call: -o FILE"),
        ("provider = 'antropic'", 1, "Did you mean anthropic?"),
        ("profiles = 3", 1, "write a table [profiles.NAME]"),
        ("[profiles]\nfree = 3", 2, "write a table [profiles.NAME]"),
        ("[profiles.free]\n\nrmp = 3", 3, "there is no key profiles.free.rmp; did you mean rpm?"),
        ("[profiles.free.prices.m]\ninput = 1", 1, "[prices] stands at the top"),
        ("[prices.m]\ninputs = 1", 2, 'there is no key prices.m.inputs; did you mean input?'),
        ('[prices."m 1"]\ninput = -1', 2, 'prices."m 1".input must be a number of dollars'),
        ("[prices.m]", 1, "says nothing"),
        ("[prices.m]\ninput = 1e308", 2, "from 0 to 1,000,000,000"),
        ("[budget]\nday = 1e308", 2, "1,000,000,000 at most"),
        ("[providers.acme]\nlike = 'opnai'", 2, "must be one of openai, anthropic, http"),
        ("[providers.acme]\nkey = 1", 2, "did you mean key_env?"),
        ("[providers.openai]\nlike = 'openai'", 1, "is built in"),
        ("[providers.ACME]\nlike = 'openai'", 1, "lower-case"),
        ("[providers.acme]\nbase_url = 'x'", 2, "is not an address"),
        ("[[providers.acme.rules]]\nstatus = [1]\nverdict = 'retry'", 2, "is not like 429"),
        ("[[providers.acme.rules]]\nstatus = [429]", 1, "verdict"),
    ],
)  # fmt: skip
def test_fault_is_named_with_its_line(folders: Folders, text: str, line: int, words: str) -> None:
    """Whatever can't be right is refused with file, line, key and what to write; secrets unshown."""
    ((found, reason),) = faults_of(folders, text)
    assert found == line
    assert words in reason
    assert "s3cr3t" not in reason


def test_every_fault_is_named_at_once(folders: Folders) -> None:
    """All faults of a file come in one error, by line."""
    faults = faults_of(folders, "rmp = 1\n[profiles.a]\ntimeout = 0\n[prices.m]\ninput = 'x'\n")
    assert [line for line, _ in faults] == [1, 3, 5]


def test_faulty_provider_is_told_once(folders: Folders) -> None:
    """A described provider with a fault is not also said to be unknown, whichever file and profile names it."""
    text = "provider = 'acme'\n[profiles.p]\nprovider = 'Acme'\n"
    rules = "[[providers.acme.rules]]\nstatus = [403]\nverdict = 'wait_for_da'\n"
    ((line, reason),) = faults_of(folders, text + rules)
    assert line == 6
    assert "must be one of retry, pause" in reason
    folders.write("provider = 'acme'\n", rules)
    with pytest.raises(InputError) as raised:
        folders.load()
    assert [(fault.file, fault.line) for fault in raised.value.faults] == [(str(folders.user), 3)]


def test_not_utf8_is_refused(folders: Folders) -> None:
    """A file in another encoding is refused with the line."""
    (folders.project / "batchrunner.toml").write_bytes(b"# \xc3\xa4\nmodel = '\xe4'\n")
    with pytest.raises(InputError) as raised:
        folders.load()
    assert [(fault.line, fault.reason) for fault in raised.value.faults] == [
        (2, "this is not UTF-8")
    ]


def test_nothing_is_needed(folders: Folders) -> None:
    """Without any file everything is unsaid, and the places that were looked at are known."""
    config = folders.load()
    assert (config.provider, config.db, config.max_wait_s) == (None, None, None)
    assert config.run_defaults("anthropic") == {}
    assert config.limits("anthropic") == LimitOptions()
    assert [(at.role, at.is_there) for at in config.files] == [("project", False), ("user", False)]


def test_values_mean_what_they_mean_on_the_command_line(folders: Folders) -> None:
    """Durations, sizes, limits and shares are read as options are; numbers may be numbers."""
    folders.write(
        "timeout = '2m'\nconnect_timeout = 3\nmax_response = '1MB'\nmax_failures = 5\n"
        "concurrency = 'auto'\nrpm = 3\nrpd = 'none'\nmin_interval = 0.5\nmax_wait = '1d'\n"
        "headers = { X-Team = 'a', Authorization = 'Bearer ${TOKEN}' }\n"
    )  # fmt: skip
    config = folders.load()
    assert config.run_defaults("openai") == {
        "timeout_s": 120.0,
        "connect_timeout_s": 3.0,
        "max_response": 1024**2,
        "max_failures": "5",
        "concurrency": "auto",
        "headers": ["X-Team: a", "Authorization: Bearer ${TOKEN}"],
    }
    assert config.limits("openai") == LimitOptions(rpm=3, rpd="none", min_interval_s=0.5)
    assert config.max_wait_s == 86_400.0


def test_project_comes_before_user_and_profile_before_top(folders: Folders) -> None:
    """The order is: the project's profile, its top, the user's profile, its top."""
    folders.write(
        "rpm = 2\nrpd = 2\n[profiles.p]\nrpm = 1\n",
        "rpm = 4\nrpd = 4\nmin_interval = 4\nconcurrency = 4\n[profiles.p]\nmin_interval = 3\n",
    )
    assert folders.load().limits("x") == LimitOptions(rpm=2, rpd=2, min_interval_s=4.0)
    config = folders.load("p")
    assert config.limits("x") == LimitOptions(rpm=1, rpd=2, min_interval_s=3.0)
    assert config.run_defaults("x") == {"concurrency": 4}
    found = config.setting("min_interval", None)
    assert found is not None
    assert found.place == f"{folders.user}:6"


def test_profile_comes_from_the_environment(folders: Folders) -> None:
    """BATCHRUNNER_PROFILE names the profile unless one is asked for; empty is none."""
    folders.write("[profiles.a]\nrpm = 1\n[profiles.b]\nrpm = 2\n")
    assert folders.load(BATCHRUNNER_PROFILE="a").limits("x").rpm == 1
    assert folders.load("b", BATCHRUNNER_PROFILE="a").limits("x").rpm == 2
    assert folders.load(BATCHRUNNER_PROFILE="").limits("x").rpm is None


def test_unknown_profile_is_refused(folders: Folders) -> None:
    """A profile that no file has is refused with those there are, and the nearest."""
    folders.write("[profiles.free]\nrpm = 1\n")
    with pytest.raises(UsageError, match=r"no profile 'fre' \(--profile\).*mean free\?") as raised:
        folders.load("fre")
    assert raised.value.fix == "Use one of: free."
    with pytest.raises(UsageError, match="BATCHRUNNER_PROFILE"):
        folders.load(BATCHRUNNER_PROFILE="fre")


def test_named_file_takes_the_projects_place(folders: Folders, tmp_path: Path) -> None:
    """--config is read instead of the project's file, besides the user's, and must be there."""
    folders.write("rpm = 1", "rpm = 2\nrpd = 2")
    other = tmp_path / "other.toml"
    other.write_text("rpm = 3")
    config = load_config(file=other, folder=folders.project, user=folders.user, environ={})
    assert config.limits("x") == LimitOptions(rpm=3, rpd=2)
    with pytest.raises(UsageError, match="There is no configuration"):
        load_config(file=tmp_path / "none.toml", user=folders.user, environ={})


def test_paths_are_relative_to_their_file(folders: Folders) -> None:
    """A relative path means the same from wherever the program is called."""
    folders.write("db = 'jobs.db'\nkey_file = '~/key'\nsystem = '@prompt.txt'\n")
    config = folders.load()
    assert config.db == folders.project / "jobs.db"
    assert config.run_defaults("x")["key_file"] == str(Path("~/key").expanduser())
    with pytest.raises(UsageError, match=r"batchrunner.toml:3: system: cannot read"):
        config.fills(None)
    (folders.project / "prompt.txt").write_text("Be brief.")
    assert config.fills(None).system == "Be brief."


def test_address_and_key_stay_with_their_provider(folders: Folders) -> None:
    """What is said of one provider is nothing to another's runs: no key goes to its address."""
    folders.write(
        "provider = 'anthropic'\nbase_url = 'https://a.example'\nconcurrency = 2\n"
        "[profiles.gateway]\nbase_url = 'https://g.example'\n"
        "[profiles.other]\nprovider = 'openai'\nkey_file = '/k'\n",
        "base_url = 'https://u.example'\nprovider = 'openai'\n",
    )
    plain, gateway, other = folders.load(), folders.load("gateway"), folders.load("other")
    assert plain.run_defaults("anthropic")["base_url"] == "https://a.example"
    assert plain.run_defaults("openai") == {
        "base_url": "https://u.example", "concurrency": 2,
    }  # fmt: skip
    assert plain.run_defaults("http") == {"concurrency": 2}
    assert gateway.run_defaults("anthropic")["base_url"] == "https://g.example"
    assert "key_file" not in other.run_defaults("anthropic")
    assert other.provider == "openai"
    assert other.run_defaults("openai")["base_url"] == "https://u.example"


def test_described_provider_is_known(folders: Folders) -> None:
    """A provider that a file describes can be named like any other, and is nobody else's."""
    folders.write(
        "provider = 'acme'\n[providers.acme]\nlike = 'openai'\nbase_url = 'https://a.example/v1'\n"
    )
    config = folders.load()
    assert config.providers.profile("acme").default_base_url == "https://a.example/v1"
    with pytest.raises(UsageError, match="no provider 'acme'"):
        Config().providers.profile("acme")


def test_unreadable_file_is_told(folders: Folders) -> None:
    """A file that is there and can't be read is refused, and so is one that is far too long."""
    (folders.project / "batchrunner.toml").mkdir()
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        folders.load()
    (folders.project / "batchrunner.toml").rmdir()
    folders.write("# " + "x" * 300_000)
    with pytest.raises(UsageError, match="larger than 256 KB"):
        folders.load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into any folder")
def test_foreign_home_has_no_file(folders: Folders) -> None:
    """Where the user's folder can't be entered, as under sudo, there is no user file."""
    folders.write("rpm = 1", "rpm = 2\nrpd = 2")
    folders.user.parent.chmod(0)
    try:
        assert folders.load().limits("x") == LimitOptions(rpm=1)
    finally:
        folders.user.parent.chmod(0o700)

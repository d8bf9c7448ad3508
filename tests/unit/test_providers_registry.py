"""Providers by name, from the configuration and from packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchrunner.core.classify import classify
from batchrunner.core.credentials import Credential
from batchrunner.errors import UsageError
from batchrunner.models import ErrorKind, Reply, Verdict
from batchrunner.providers import NAMES, Providers, pool_of, profile, registry
from batchrunner.providers.custom import (
    ProviderTable,
    RuleTable,
    TableFaultError,
    custom_profile,
)

KEY = Credential("k-123456", "ACME_API_KEY")


def table(**fields: Any) -> ProviderTable:
    """Return a table as it is read from TOML."""
    return msgspec.convert(fields, ProviderTable)


def test_a_table_makes_a_profile() -> None:
    """Every key of a table has its effect; the rest is that of the provider it is like."""
    acme = custom_profile(
        "acme",
        table(
            title="Acme",
            like="openai",
            base_url="https://llm.acme.example/v1",
            base_url_env="ACME_URL",
            auth_header="X-Acme-Key: Key {key}",
            key_env=["ACME_API_KEY", "ACME_TOKEN"],
            headers={"X-Team": "${TEAM}"},
            day_resets="Europe/Berlin",
            request_id_header="X-Trace",
            organization_header="X-Org",
            models_path="none",
            needs_model=False,
        ),
    )
    assert acme.base_url(None, {}) == "https://llm.acme.example/v1"
    assert acme.base_url(None, {"ACME_URL": "http://gw"}) == "http://gw"
    assert acme.is_own("https://llm.acme.example/other")
    assert acme.key_envs == ("ACME_API_KEY", "ACME_TOKEN")
    assert acme.headers(KEY) == {
        "content-type": "application/json",
        "x-acme-key": "Key k-123456",
    }
    assert acme.fixed_headers == ("X-Team: ${TEAM}",)
    assert acme.day_zone == "Europe/Berlin"
    assert acme.request_id({"x-trace": "t", "x-request-id": "r"}) == "t"
    assert acme.organization({"x-org": "o"}) == "o"
    assert acme.models_path is None
    assert not acme.needs_model
    assert "Acme" in acme.base_rule
    assert acme.output_text(b'{"choices":[{"message":{"content":"hi"}}]}', None) == "hi"


def test_an_empty_table_is_the_provider_it_is_like() -> None:
    """What is not said is that of the other, but for its address and its keys."""
    plain = custom_profile("plain", table(like="anthropic"))
    assert plain.headers(KEY)["x-api-key"] == KEY.value
    assert plain.default_path(b"{}") == "/v1/messages"
    assert plain.rules == profile("anthropic").rules
    assert plain.title == "plain"
    assert plain.base_url(None, {}) is None
    assert not plain.key_required


@pytest.mark.parametrize(
    ("row", "status", "body", "verdict", "kind"),
    [
        ({"status": [403], "verdict": "pause"}, 403, b"", Verdict.PAUSE, ErrorKind.RATE_LIMITED),
        ({"status": ["4xx"], "contains": "a.b", "verdict": "wait_for_day"}, 418, b"x A.B", Verdict.WAIT_FOR_DAY, ErrorKind.DAILY_LIMIT),
        ({"code": ["E_Model"], "verdict": "hold_model"}, 400, b'{"error":{"code":"e_model"}}', Verdict.HOLD_MODEL, ErrorKind.MODEL_NOT_FOUND),
        ({"contains": "broke", "verdict": "halt_run", "kind": "credit"}, 400, b"broke", Verdict.HALT_RUN, ErrorKind.CREDIT),
        ({"contains": "busy", "verdict": "retry", "kind": "overloaded"}, 400, b"busy", Verdict.RETRY, ErrorKind.OVERLOADED),
        ({"contains": "busy", "verdict": "fail_job"}, 500, b"busy", Verdict.FAIL_JOB, ErrorKind.INVALID_REQUEST),
        ({"contains": "a.b", "verdict": "halt_run"}, 400, b"axb", Verdict.FAIL_JOB, ErrorKind.INVALID_REQUEST),
    ],
)  # fmt: skip
def test_a_tables_rules_come_first(
    row: dict[str, Any], status: int, body: bytes, verdict: Verdict, kind: ErrorKind
) -> None:
    """Status, code and words must all match, words not as a pattern; who must act is told how."""
    acme = custom_profile("acme", table(rules=[row]))
    reply = Reply(status=status, headers={}, body=body)
    decision = classify(reply, acme, url="https://x", now_wall=0)
    assert (decision.verdict, decision.kind) == (verdict, kind)
    if verdict in {Verdict.HALT_RUN, Verdict.HOLD_MODEL}:
        assert decision.fix


def test_a_rules_own_fix_is_shown_as_it_is() -> None:
    """Braces in it mean nothing."""
    row = {"status": [403], "verdict": "halt_run", "fix": "Ask {somebody}."}
    reply = Reply(status=403, headers={}, body=b"")
    acme = custom_profile("acme", table(rules=[row]))
    assert classify(reply, acme, url="https://x", now_wall=0).fix == "Ask {somebody}."


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"base_url": "llm.acme.example"}, "base_url"),
        ({"base_url": "https://user:pw@acme.example"}, "base_url"),
        ({"auth_header": "Authorization"}, "auth_header"),
        ({"auth_header": "Authorization: Bearer"}, "auth_header"),
        ({"auth_header": "X: {key}{key}"}, "auth_header"),
        ({"headers": {"bad name": "x"}}, "headers.bad name"),
        ({"headers": {"X": "sk-ant-api03-abcdefghijkl"}}, "headers.X"),
        ({"headers": {"Authorization": "Basic abcdefghijkl"}}, "headers.Authorization"),
        ({"day_resets": "Berlin"}, "day_resets"),
        ({"models_path": "models"}, "models_path"),
        ({"rules": [{"status": [42], "verdict": "pause"}]}, "rules.0.status"),
        ({"rules": [{"status": ["6xx"], "verdict": "pause"}]}, "rules.0.status"),
        ({"rules": [{"status": [429], "verdict": "pause"}, {"verdict": "pause"}]}, "rules.1"),
    ],
)
def test_values_that_cant_be_right_are_named(fields: dict[str, Any], key: str) -> None:
    """The key is named, and no credential is shown."""
    with pytest.raises(TableFaultError) as caught:
        custom_profile("acme", table(**fields))
    assert caught.value.key == key
    assert "sk-ant" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Acme", "a b", "1a", "a" * 33])
def test_a_name_is_one_word(name: str) -> None:
    """It is typed after --provider."""
    with pytest.raises(TableFaultError):
        custom_profile(name, table())


def test_unknown_keys_and_verdicts_are_refused() -> None:
    """A table is strict."""
    with pytest.raises(msgspec.ValidationError, match="base_ulr"):
        table(base_ulr="https://x")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"status": [429], "verdict": "complete"}, RuleTable)


def test_two_sets_of_providers_do_not_mix() -> None:
    """What one knows the other does not; a near name is offered of those that it knows."""
    one = Providers({"acme": custom_profile("acme", table())})
    other = Providers()
    assert one.profile("ACME").name == "acme"
    assert "acme" in one.names
    with pytest.raises(UsageError):
        other.profile("acme")
    with pytest.raises(UsageError) as caught:
        one.profile("acne")
    assert "Did you mean acme?" in caught.value.message
    assert "acme" in caught.value.fix
    assert one.day_zone_of("acme") == "UTC"
    assert other.day_zone_of("acme") == "UTC"


def test_a_built_in_name_is_taken() -> None:
    """The configuration can't replace what the program means by a name."""
    with pytest.raises(UsageError, match="openai"):
        Providers({"openai": custom_profile("openai", table())})


def test_models_of_an_unknown_provider_are_pools_of_their_own() -> None:
    """A pool is told by names alone, so that a run can be rescued without its configuration."""
    assert pool_of("acme", "gpt-x-2026-01-31") == "gpt-x-2026-01-31"
    assert pool_of("acme", "") == pool_of("openai", "") == "all"
    acme = custom_profile("acme", table())
    assert acme.pool_of("gpt-x-2026-01-31") == "gpt-x-2026-01-31"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package, seen by nobody else."""
    (tmp_path / "acme_llm.py").write_text(
        "import dataclasses\n"
        "from batchrunner.providers import profile\n"
        "ACME = dataclasses.replace(profile('openai'), name='x', day_zone='Asia/Tokyo')\n"
        "NONE = 1\n"
    )
    info = tmp_path / "acme_llm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-llm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[batchrunner.providers]\nacme = acme_llm:ACME\nbroken = acme_llm:GONE\nnone = acme_llm:NONE\n"
        "openai = acme_llm:NONE\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (registry._entry_points, registry._load):
        monkeypatch.setattr(registry, cached.__name__, cached.__wrapped__)
    yield tmp_path
    sys.modules.pop("acme_llm", None)


@pytest.mark.usefixtures("package")
def test_a_package_brings_a_provider() -> None:
    """An entry point is found by its name, loaded only then, and never instead of a built-in one."""
    known = Providers()
    assert "acme" in known.names
    assert known.profile("openai") is profile("openai")
    assert "acme_llm" not in sys.modules
    acme = known.profile("Acme")
    assert (acme.name, acme.day_zone) == ("acme", "Asia/Tokyo")
    assert known.day_zone_of("acme") == "Asia/Tokyo"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["broken", "none"])
def test_a_package_that_brings_no_profile_is_named(name: str) -> None:
    """It exits 2 with the package, not with a traceback."""
    with pytest.raises(UsageError) as caught:
        Providers().profile(name)
    assert "acme-llm" in caught.value.message


def test_every_built_in_name_is_known() -> None:
    """The list of the help texts is that of the profiles."""
    assert Providers().names[: len(NAMES)] == NAMES

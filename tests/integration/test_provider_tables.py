"""A provider that somebody describes is sent to, judged and exported like a built-in one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batchrunner.app import Batchrunner
from batchrunner.errors import UsageError
from batchrunner.models import ErrorKind, ExitCode
from batchrunner.options import CallOptions, RunOptions
from batchrunner.providers import Providers
from batchrunner.providers.custom import ProviderTable, custom_profile
from tests.fakes import ApiServer
from tests.integration.house import House


def app_with(house: House, **fields: Any) -> Batchrunner:
    """Return the program with a provider ``acme``."""
    table = msgspec.convert(fields, ProviderTable)
    return Batchrunner(
        house.db,
        environ={**house.environ, "ACME_KEY": "acme-key-123", "TEAM": "team-secret"},
        providers=Providers({"acme": custom_profile("acme", table)}),
    )


async def test_a_described_provider_is_sent_to(house: House, api: ApiServer) -> None:
    """Address, credential header and fixed headers are those of the table; nothing of it is stored in the clear."""
    app = app_with(
        house,
        base_url=f"{api.url}/v1",
        auth_header="X-Acme-Key: {key}",
        key_env=["ACME_KEY"],
        headers={"X-Team": "${TEAM}"},
        request_id_header="x-none",
    )
    file = house.jobs(2)
    result = await app.submit([str(file)], run=RunOptions(provider="acme", model="m"))
    assert result.exit_code == ExitCode.DONE
    request, _ = api.requests()
    assert request.path == "/v1/chat/completions"
    assert request.headers["x-team"] == "team-secret"
    assert "x-acme-key" in request.headers
    assert "authorization" not in request.headers
    assert b"team-secret" not in house.db.read_bytes()
    assert [job.output_text for job in app.jobs()] != [None, None]


async def test_a_tables_rule_decides(house: House, api: ApiServer) -> None:
    """A row of the table gives verdict, kind and fix before any other does."""
    api.script([{"status": 403, "body": {"error": {"message": "seat taken"}}}])
    app = app_with(
        house,
        base_url=f"{api.url}/v1",
        rules=[
            {
                "status": [403],
                "contains": "seat taken",
                "verdict": "halt_run",
                "kind": "credit",
                "fix": "Buy a seat.",
            }
        ],
    )
    file = house.jobs(2)
    result = await app.submit([str(file)], run=RunOptions(provider="acme", model="m"))
    assert result.exit_code == ExitCode.REFUSED
    assert result.waiting is not None
    assert (result.waiting.reason.value, result.waiting.fix) == ("credit", "Buy a seat.")
    assert app.errors() == [] or app.errors()[0].kind is not ErrorKind.CREDIT
    assert len(api.requests()) == 1


async def test_a_run_of_a_forgotten_provider_can_be_looked_at(house: House, api: ApiServer) -> None:
    """Without its table a run is shown; what needs the table exits 2 and says so."""
    app = app_with(house, base_url=f"{api.url}/v1", day_resets="Asia/Tokyo")
    file = house.jobs(1)
    await app.submit(
        [str(file)], run=RunOptions(provider="acme", model="m"), call=CallOptions(no_run=True)
    )
    assert house.status().provider == "acme"
    assert house.app.runs()
    with pytest.raises(UsageError) as caught:
        await house.app.resume()
    assert "acme" in caught.value.message
    assert (await app.resume()).exit_code == ExitCode.DONE

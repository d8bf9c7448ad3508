"""A worker far from its server: each word to it takes as long as a late send may be late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes import ApiServer
from tests.fakes.network import serving
from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House

#: There and back (seconds).
TRIP_S = 0.04


@contextmanager
def far(port: int) -> Iterator[int]:
    """Lead to a port by a long way."""

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while (parcel := await under_way.get())[1]:
                await asyncio.sleep(max(0.0, parcel[0] - time.monotonic()))
                sink.write(parcel[1])
            sink.close()

        arriving = asyncio.ensure_future(arrive())
        try:
            while some := await source.read(65_536):
                under_way.put_nowait((time.monotonic() + TRIP_S / 2, some))
        finally:
            under_way.put_nowait((0.0, b""))
            await arriving

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_there, there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            carry(reader, there), carry(from_there, writer), return_exceptions=True
        )

    with serving(lead) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_far_from_its_server_goes_on(
    house: House, api: ApiServer, server: PostgresServer
) -> None:
    """Under a limit its sends wait for their commits, and are made: none is late anew each time."""
    house.environ["ANTHROPIC_API_KEY"] = "test"
    house.jobs(40)
    house.submit("--no-run", "-c", "4", "--rpm", "1200", code=0)
    with far(server.port) as port:
        there = house.environ["BATCHRUNNER_DB"].replace(f":{server.port}/", f":{port}/")
        worker = house.start("worker", "--until-done", "--json", environ={"BATCHRUNNER_DB": there})
        worker.ended(0, timeout=90)
    assert house.counts().completed == 40
    assert len(api.requests()) == 40

"""A queue with SQLAlchemy that commits every step: stored, taken, answered.

What batchrunner would be without thought for the disk: asyncio, aiohttp, an ORM session a step over
aiosqlite. The connection has batchrunner's settings that matter, WAL and ``synchronous = FULL``.
A second run puts back what was taken and not answered.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from sqlalchemy import event, select, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.tools.plan import KEY, Plan, told

STORE = "queue.sqlite"
PENDING, TAKEN, DONE, FAILED = "pending", "taken", "done", "failed"


class Base(DeclarativeBase):
    """The tables."""


class Job(Base):
    """One request and its answer."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    body: Mapped[str]
    status: Mapped[str] = mapped_column(index=True, default=PENDING)
    answer: Mapped[str | None]


class Queue:
    """The jobs in the database; one writer at a time, as SQLite wants it."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Use an engine."""
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._writing = asyncio.Lock()

    async def store(self, plan: Plan) -> None:
        """Store the jobs once, and put back what a dead process had taken."""
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with self._sessions() as session:
            if await session.scalar(select(Job.id).limit(1)) is None:
                session.add_all(Job(key=key, body=json.dumps(body)) for key, body in plan.bodies())
            await session.execute(update(Job).where(Job.status == TAKEN).values(status=PENDING))
            await session.commit()

    async def take(self) -> Job | None:
        """Take the next job."""
        async with self._writing, self._sessions() as session:
            job: Job | None = await self._next(session)
            if job is not None:
                job.status = TAKEN
                await session.commit()
            return job

    async def _next(self, session: AsyncSession) -> Job | None:
        return await session.scalar(
            select(Job).where(Job.status == PENDING).order_by(Job.id).limit(1)
        )

    async def finish(self, job: Job, status: str, answer: str | None) -> None:
        """Store how a job ended."""
        async with self._writing, self._sessions() as session:
            await session.execute(
                update(Job).where(Job.id == job.id).values(status=status, answer=answer)
            )
            await session.commit()


async def main(plan: Plan) -> None:
    """Send what is pending."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{plan.folder / STORE}")

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    queue = Queue(engine)
    await queue.store(plan)
    connector = aiohttp.TCPConnector(limit=plan.concurrency)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            url = f"{plan.openai_url}/chat/completions"
            while (job := await queue.take()) is not None:
                try:
                    async with session.post(url, json=json.loads(job.body)) as response:
                        response.raise_for_status()
                        await queue.finish(job, DONE, await response.text())
                except aiohttp.ClientError as error:
                    await queue.finish(job, FAILED, None)
                    plan.give_up(job.key, error)

        await asyncio.gather(*(work() for _ in range(plan.concurrency)))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(told()))

"""The first half of a cycle: what came back is settled, by statements about rows that are nobody else's.

In three parts, as the whole cycle (:mod:`batchrunner.store.cycle`): :func:`prepare_settling` touches no
database, :func:`compress` takes time without a transaction, :func:`settle` is executed in one. Workers
settle before they wait for the ledger of all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from batchrunner.models import RunId
from batchrunner.store.codecs import Codec
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inserts import Rows, rows_of
from batchrunner.store.records import Settle
from batchrunner.store.settles import (
    Answer,
    Group,
    alike,
    answers_of,
    responses_insert,
    sends_insert,
    settle_group,
    settle_singly,
)

__all__ = ["Settling", "compress", "prepare_settling", "settle"]


class Settling(NamedTuple):
    """What came back, made ready."""

    settles: Sequence[Settle]
    codecs: Mapping[RunId, Codec]
    groups: Sequence[Group]
    rows: Rows
    #: Answers of which some are to be compressed, and their rows once that is done.
    answers: Sequence[Answer]
    late: list[Rows]
    packs: bool
    #: Settles that no longer applied, once it is executed.
    lost: Sequence[Settle] = ()


def prepare_settling(
    settles: Sequence[Settle], codecs: Mapping[RunId, Codec], *, packs: bool
) -> Settling:
    """Return the statements that settle; touches no database."""
    answers = answers_of(settles, codecs)
    inserts = (sends_insert(settles), *(() if codecs else (responses_insert(answers),)))
    late = answers if codecs else ()
    rows = rows_of(inserts, packs=packs)
    return Settling(settles, codecs, alike(settles), rows, late, [], packs)


def compress(settling: Settling) -> None:
    """Make the answers small whose run wants that, if it is not done yet.

    For the connection's thread, before the transaction: zlib lets the interpreter's lock go.
    """
    if settling.answers and not settling.late:
        settling.late.append(rows_of([responses_insert(settling.answers)], packs=settling.packs))


def settle(conn: DriverConnection, settling: Settling) -> Settling:
    """Settle in the transaction that is open and has done nothing else; return what was settled.

    Where a settle no longer applies, which only a defect or another holder could bring about, the
    transaction is begun anew.
    """
    if not all(settle_group(conn, values) == len(group) for values, group in settling.groups):
        _begin_anew(conn)
        lost = settle_singly(conn, settling.groups)
        gone = {(s.job_id, s.claim) for s in lost}
        kept = [s for s in settling.settles if (s.job_id, s.claim) not in gone]
        settling = prepare_settling(kept, settling.codecs, packs=settling.packs)
        settling = settling._replace(lost=lost)
        compress(settling)
    settling.rows.insert(conn)
    for rows in settling.late:
        rows.insert(conn)
    return settling


def _begin_anew(conn: DriverConnection) -> None:
    """Take back what the transaction did; nobody else writes before it goes on, where that matters."""
    if isinstance(conn, sqlite3.Connection):
        conn.execute("ROLLBACK")
        conn.execute("BEGIN IMMEDIATE")
    else:
        conn.execute("BEGIN ANEW")

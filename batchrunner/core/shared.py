"""A ledger in memory that is one of several: what is stored is the truth, what is booked here comes on top.

Whoever has the turn (nobody else books meanwhile) first takes what the others have stored, then plans
as if it were alone, and stores whole counts: they are what all have used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from batchrunner.core.admission import DirtySlot, Ledger, ScopeLedger
from batchrunner.core.token_use import SlotRow
from batchrunner.models import ScopeId

__all__ = ["SharedLedger"]

#: Slots that the ledger has forgotten are kept here in no greater number than its own and so many.
_SLACK: Final = 1_000

_Key = tuple[ScopeId, str, int, int]


class SharedLedger:
    """What was stored of each slot when it was last seen, beside the ledger that counts on from there."""

    def __init__(self, ledger: Ledger) -> None:
        """Take the ledger; its scopes become known as they come, before anything is booked in them."""
        self._ledger = ledger
        self._stored: dict[_Key, int] = {}
        self._known: set[ScopeId] = set()
        #: Scopes of which less may be stored than was.
        self._doubted: set[ScopeId] = set()
        #: Scopes that were loaded since the last turn: of these all that is stored is wanted.
        self.fresh: set[ScopeId] = set()
        for scope in ledger.scopes.values():
            self._learn(scope)
        ledger.added = self._learn

    def _learn(self, scope: ScopeLedger) -> None:
        """Note what a scope was loaded with: that was stored then."""
        self._known.add(scope.id)
        self.fresh.add(scope.id)
        for unit, slots in scope.stored_slots():
            for slot, n in slots.counts.items():
                self._stored[scope.id, unit, slots.grain, slot] = n

    def doubt(self) -> None:
        """Take the next rows of each scope for all that there are: the server was away, and may be another.

        What it has lost of what was stored is stored again. Others may have given some of it back
        meanwhile: that counts too much, and never too little.
        """
        self._doubted = set(self._known)

    def take(self, rows: Iterable[DirtySlot], of: Collection[ScopeId] = ()) -> None:
        """Take rows as they are stored now: of fresh scopes all, of others those that changed.

        ``of``: the scopes that they are of.
        """
        self.fresh.clear()
        if doubted := self._doubted.intersection(of):
            rows = list(rows)
            self._keep_lost({row[:4]: row.n for row in rows}, doubted)
        for row in rows:
            if row.scope_id in self._known:
                key = row[:4]
                self._ledger[row.scope_id].adopt(SlotRow(*row[1:]), self._stored.get(key, 0))
                self._stored[key] = row.n
        self._sweep()

    def _keep_lost(self, there: dict[_Key, int], doubted: set[ScopeId]) -> None:
        """Have what is there no more be stored again with the next turn."""
        self._doubted -= doubted
        lost = [
            DirtySlot(*key, n)
            for key, n in self._stored.items()
            if key[0] in doubted and there.get(key, 0) < n
        ]
        for row in lost:
            self._stored[row[:4]] = there.get(row[:4], 0)
        self._ledger.put_back(lost)

    def stored(self, rows: Iterable[DirtySlot]) -> None:
        """Note what this turn has stored."""
        for row in rows:
            self._stored[row[:4]] = row.n

    def _sweep(self) -> None:
        """Forget what the ledger has forgotten, now and then."""
        counts = {
            (scope, unit, slots.grain): slots.counts
            for scope in self._known
            for unit, slots in self._ledger[scope].stored_slots()
        }
        if len(self._stored) > 2 * sum(map(len, counts.values())) + _SLACK:
            self._stored = {key: n for key, n in self._stored.items() if key[3] in counts[key[:3]]}

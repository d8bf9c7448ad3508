"""The checks of one address, from its options to its clock.

One request is made, for the list of models, and with ``--live`` one more. Where an address is not
the provider's own, one or two more for the list tell what the key has to do with the answer. All of
them pass the account's limits; with a key that is missing or malformed none is made.
"""

from __future__ import annotations

from typing import Any

from yarl import URL

from batchrunner.checkup.allowance import Errand
from batchrunner.checkup.answers import put_clock, put_limits
from batchrunner.checkup.asking import Asked, ask, list_request
from batchrunner.checkup.case import Case, put_failure, put_refusal
from batchrunner.checkup.interview import Interview
from batchrunner.checkup.keys import put_key
from batchrunner.checkup.sheet import WAY, Sheet
from batchrunner.checkup.way import STEPS, Way, look_along, put_way
from batchrunner.clock import wall_ms
from batchrunner.core.credentials import Credential
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.providers import Profile
from batchrunner.routes import short_timeout, strangers
from batchrunner.transport import Aborted
from batchrunner.views import CheckStatus, CheckView

__all__ = ["examine_endpoint"]


async def examine_endpoint(case: Case) -> list[CheckView]:
    """Return the checks of one address, in order."""
    names = WAY if case.is_live else [name for name in WAY if name != "live"]
    sheet = Sheet(case.base_url, names, proxy=case.proxy, secrets=case.secrets)
    await _Examination(case, sheet).run()
    return sheet.checks()


class _Examination:
    """One address, check by check; what is asked of it is :class:`Interview`'s."""

    def __init__(self, case: Case, sheet: Sheet) -> None:
        self._case = case
        self._sheet = sheet
        self._options = case.row.options
        self._known: Profile = case.subject.known
        self._base_url = ""
        self._credential: Credential | None = None

    async def run(self) -> None:
        """Write every check down, as far as it can be told."""
        way = await self._begin()
        if way is None:
            return
        if self._sheet.has_failed("key"):
            await self._reach(way, "not asked: the key can't be used")
            return
        interview = Interview(self._case, self._sheet, self._known, self._base_url)
        if self._known.models_path is None:
            why = f"{self._known.title} has no list of models to ask for; only a job's own request tells"
            if await self._reach(way, f"not asked: {why}") and self._case.is_live:
                await interview.ask_model()
        else:
            asked = await interview.ask_for_list()
            if self._put_way(way, asked):
                await interview.go_on(asked)
        self._put_limits_and_clock(interview)

    async def _begin(self) -> Way | None:
        """Write configuration and key down, and go the way; ``None``: there is none to go."""
        case = self._case
        try:
            road = case.wiring.route(self._known, self._options)
            # Headers, their variables, and whatever else is looked at before the first request.
            case.wiring(case.row, _nobody, auth={})
        except UsageError as error:
            put_refusal(self._sheet, "configuration", error)
            return None
        self._base_url = road.base_urls[0]
        version = self._options.get("api_version")
        self._known = self._known.at(self._base_url, version, case.environ)
        self._put_configuration()
        self._put_key()
        proxy = road.proxies_before(self._base_url)[0]
        return await look_along(
            URL(self._base_url), proxy, road.tls, case.subject.connect_timeout_s
        )

    def _put_configuration(self) -> None:
        """Say which provider, where, and what a person should know of both."""
        known, subject = self._known, self._case.subject
        where = self._base_url.partition("?")[0]
        if known.is_own(self._base_url):
            where += ", its own address"
        said = (strangers(known, [self._base_url]), short_timeout(known, subject.options))
        warned = [words for words in said if words]
        self._sheet.put(
            "configuration",
            CheckStatus.WARN if warned else CheckStatus.OK,
            ". ".join([f"{known.name} ({subject.told_by}) at {where}", *warned]).rstrip("."),
            fix="Nothing, if that is as you want it." if warned else "",
        )

    def _put_key(self) -> None:
        case = self._case
        case.notices.clear()
        try:
            credential = case.wiring.credential(
                self._known, [self._base_url], self._options.get("key_file")
            )
        except BatchrunnerError as error:
            put_refusal(self._sheet, "key", error)
            return
        put_key(
            self._sheet,
            self._known,
            credential,
            case.notices,
            host=URL(self._base_url).host or "",
            is_own=self._known.is_own(self._base_url),
        )

    async def _reach(self, way: Way, why: str) -> bool:
        """Go up to where a request would be written, send none, and say why; return whether it got there."""
        wire = self._case.wiring(self._case.row, _nobody, auth={})
        if not self._put_way(way, await ask(wire, list_request(wire), Errand(refusal=why))):
            return False
        self._sheet.end("tls", why)
        return True

    def _put_way(self, way: Way, asked: Asked) -> bool:
        """Write the steps down; return whether the server was reached."""
        failed = asked.place if asked.place in STEPS else None
        if failed == "tcp" and way.tcp is not None and way.tcp.works:
            # It was connected to; what did not come about is what follows.
            failed = "proxy" if way.proxy is not None else "tls" if way.is_secured else failed
        put_way(self._sheet, way, failed)
        if failed is not None:
            put_failure(self._sheet, failed, asked)
        return failed is None

    def _put_limits_and_clock(self, interview: Interview) -> None:
        if not interview.headers:
            return
        now = wall_ms()
        put_clock(self._sheet, interview.headers, now_ms=now)
        if not self._sheet.has("limits"):
            put_limits(self._sheet, interview.headers, interview.stored_limits(), now_ms=now)


async def _nobody(_errand: Any) -> None:
    """Let no request go."""
    raise Aborted

"""What is asked of one address, and what its answers tell of key, permission and model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from yarl import URL

from batchrunner.checkup.allowance import Allowance, Errand
from batchrunner.checkup.answers import put_models
from batchrunner.checkup.asking import Asked, ask, list_request, live_request
from batchrunner.checkup.case import Case, put_failure
from batchrunner.checkup.keys import other_form
from batchrunner.checkup.listing import read_listing
from batchrunner.checkup.sheet import Sheet
from batchrunner.core.credentials import Credential
from batchrunner.errors import UsageError
from batchrunner.models import ErrorKind, ExitCode, RunId
from batchrunner.providers import Profile
from batchrunner.views import CheckStatus, LimitView

__all__ = ["Interview"]

#: Providers that show their list to anybody, so that it says nothing of a key.
_OPEN_LISTS: Final = frozenset({"openrouter"})
_REFUSED: Final = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.PERMISSION})
#: Answers that say nothing of us: the server is not well.
_NOT_WELL: Final = frozenset({ErrorKind.OVERLOADED, ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT})
#: There is no list at that address.
_NO_LIST: Final = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.MODEL_NOT_FOUND})


class Interview:
    """The requests of one examination; the ledger lets each of them go, or not."""

    def __init__(self, case: Case, sheet: Sheet, known: Profile, base_url: str) -> None:
        """Open the way; nothing is sent yet."""
        self._case = case
        self._sheet = sheet
        self._known = known
        self._host = URL(base_url).host or base_url
        self._is_own = known.is_own(base_url)
        self._credential: Credential | None = case.wiring.credential(
            known, [base_url], case.row.options.get("key_file")
        )
        self._wire = case.wiring(case.row, self._gate)
        self._allowance: Allowance = case.allowance(self._wire.account_key)
        #: Of the last answer.
        self.headers: Mapping[str, str] = {}

    def stored_limits(self) -> Sequence[LimitView]:
        """Return the limits in force of the account."""
        return self._case.limits(self._wire.account_key)

    async def ask_for_list(self) -> Asked:
        """Ask for the list of models."""
        asked = await ask(self._wire, list_request(self._wire), Errand(run=self._run_id))
        if asked.reply is not None:
            self.headers = asked.reply.headers
        return asked

    async def go_on(self, asked: Asked) -> None:
        """Write down what the list tells, and ask the model where that is wanted."""
        if asked.reply is None:
            self._sheet.end("tls", f"not asked: {asked.refusal}")
            return
        if self._put_http(asked):
            if not await self._put_authentication(asked):
                return
            self._put_models(asked)
        if self._case.is_live and not self._sheet.has_failed("http"):
            await self.ask_model()

    async def ask_model(self) -> None:
        """Ask the model for a word (``--live``); that it answers tells of key and permission."""
        models = self._case.subject.models
        if not models:
            self._sheet.put(
                "live", CheckStatus.SKIP, "no model is named to be asked", fix="Add --model NAME."
            )
            return
        errand = Errand(model=models[0], run=self._run_id)
        try:
            request = live_request(self._wire, models[0])
        except UsageError as error:
            self._sheet.put("live", CheckStatus.SKIP, error.message)
            return
        asked = await ask(self._wire, request, errand)
        if asked.reply is None:
            self._sheet.put("live", CheckStatus.SKIP, f"not asked: {asked.refusal}")
            return
        booked = "; it is booked in the database's ledger" if errand.is_booked else ""
        if asked.reply.status is not None:
            self.headers = asked.reply.headers
        if asked.is_granted:
            self._put_answer(asked, models[0], booked)
        else:
            put_failure(self._sheet, "live", asked, after=booked)

    async def _gate(self, errand: Any) -> None:
        await self._allowance.gate(errand)

    @property
    def _run_id(self) -> RunId | None:
        run = self._case.subject.run
        return run.id if run is not None else None

    # --- what the answers tell

    def _put_http(self, asked: Asked) -> bool:
        """Write down whether an API answered; return whether it told anything of the key."""
        assert asked.reply is not None
        assert asked.decision is not None
        status, message = asked.reply.status, asked.decision.message
        path = (self._known.models_path or "").partition("?")[0]
        got = f"GET {path} was answered {status}"
        if status is not None and asked.kind in _NOT_WELL:
            # It answers, and a run would wait for better times.
            self._sheet.put(
                "http", CheckStatus.WARN, f"{got}: {message}",
                fix="Look again later; a run waits for it by itself.", took_ms=asked.took_ms,
            )  # fmt: skip
            self._sheet.end("http", f"could not be told: the server answered {status}")
            return False
        if asked.kind in _NO_LIST:
            self._sheet.put(
                "http", CheckStatus.WARN, f"{got}: {message}",
                fix=f"See whether the base URL is right. {self._known.base_rule} If it is, there is no list"
                " of models, and only --live --model NAME tells more.",
                took_ms=asked.took_ms,
            )  # fmt: skip
            self._sheet.end("http", "could not be told: there is no list of models")
            return False
        if asked.place == "http":
            put_failure(self._sheet, "http", asked)
            return False
        self._sheet.put("http", CheckStatus.OK, got, took_ms=asked.took_ms)
        return True

    async def _put_authentication(self, asked: Asked) -> bool:
        """Write down what the answer says of the key; return whether it was let in."""
        may_be_header = asked.kind in _REFUSED and not self._is_own and self._credential is not None
        if may_be_header and await self._put_other_header(asked):
            return False
        if asked.place == "authentication":
            put_failure(self._sheet, "authentication", asked)
            return False
        self._sheet.put("authentication", *(await self._told_of_key(asked)))
        if asked.place == "permission":
            put_failure(self._sheet, "permission", asked)
            return False
        if asked.is_granted:
            detail = "may read the list of models; whether a model answers only --live tells"
            self._sheet.put("permission", CheckStatus.OK, detail)
        else:
            self._sheet.put("permission", CheckStatus.SKIP, "could not be told: a limit is reached")
        return True

    async def _told_of_key(self, asked: Asked) -> tuple[CheckStatus, str]:
        if self._credential is None:
            return CheckStatus.OK, "the list is given without a key"
        if not asked.is_granted and asked.place != "permission":
            return CheckStatus.OK, "the key is not refused"
        if asked.is_granted and (doubt := await self._doubt()):
            return CheckStatus.SKIP, f"{doubt}; --live tells"
        assert asked.reply is not None
        whose = self._wire.organization(asked.reply)
        return CheckStatus.OK, "the key is accepted" + (f" (organization {whose})" if whose else "")

    async def _put_other_header(self, asked: Asked) -> bool:
        """Try the key in the other header; return whether the address takes it there."""
        assert self._credential is not None
        assert asked.decision is not None
        form = other_form(self._known, self._credential, self._wire.headers)
        if form is None or not (await self._ask_as(form.headers)).is_granted:
            return False
        run = self._case.subject.run
        self._sheet.put(
            "authentication",
            CheckStatus.FAIL,
            f"{self._host} takes the key as {form.other}, not as {form.usual}"
            f" ({asked.decision.message})",
            fix=form.mend(
                f"batchrunner resume {shlex.quote(run.name)}" if run else "batchrunner doctor"
            ),
            took_ms=asked.took_ms,
            exit_code=ExitCode.REFUSED,
        )
        return True

    async def _doubt(self) -> str:
        """Return why a list that was given says nothing of the key; empty where it does."""
        if self._is_own and self._known.name not in _OPEN_LISTS:
            return ""
        bare = await self._ask_as({})
        if bare.reply is None:
            return f"the list is given, whether to anybody could not be told: {bare.refusal}"
        if bare.is_granted:
            return "this address shows its list to anybody, so the key was not looked at"
        return ""

    async def _ask_as(self, auth: Mapping[str, str]) -> Asked:
        wire = self._case.wiring(self._case.row, self._gate, auth=auth)
        return await ask(wire, list_request(wire), Errand(run=self._run_id))

    def _put_models(self, asked: Asked) -> None:
        assert asked.reply is not None
        if not asked.is_granted:
            put_failure(self._sheet, "limits", asked)
            self._sheet.put("model", CheckStatus.SKIP, "could not be told: a limit is reached")
            return
        if not self._known.lists_models:
            why = f"could not be told: what {self._known.title} lists is not what a line's model names"
            self._sheet.put("model", CheckStatus.SKIP, why)
            return
        listing = read_listing(asked.reply.body)
        if listing is None:
            why = "could not be told: the list has a form that is not known"
            self._sheet.put("model", CheckStatus.SKIP, why)
            return
        run = self._case.subject.run
        mend = "Use --model {model}; in a run that is stored: batchrunner resume RUN --set model={model}"
        if run is not None:
            verb = "resume" if run.counts.pending else "retry"
            mend = f"batchrunner {verb} {run.name} --set model={{model}}"
        put_models(self._sheet, listing, self._case.subject.models, mend=mend)

    def _put_answer(self, asked: Asked, model: str, booked: str) -> None:
        assert asked.decision is not None
        usage = asked.decision.usage
        tokens = ""
        if usage is not None and None not in (usage.input_tokens, usage.output_tokens):
            tokens = f" ({usage.input_tokens} tokens in, {usage.output_tokens} out)"
        if self._credential is not None:
            self._sheet.put("authentication", CheckStatus.OK, "the key is accepted")
        self._sheet.put("permission", CheckStatus.OK, f"may use {model}")
        detail = f"{model} answered{tokens}{booked}"
        self._sheet.put("live", CheckStatus.OK, detail, took_ms=asked.took_ms)

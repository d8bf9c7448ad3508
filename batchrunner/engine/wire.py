"""One run's way to its provider: how a stored job becomes a request and a reply a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from batchrunner.core.classify import classify
from batchrunner.core.counting import AS_USED, Counting
from batchrunner.core.credentials import Secrets
from batchrunner.models import Decision, JobId, Reply, Request
from batchrunner.providers.profile import MODEL, Profile
from batchrunner.store.records import ClaimedJob

#: So many addresses are remembered: the jobs of a run share a few, or have one each.
MOST_URLS: Final = 1_024
#: Of a request that is no job's.
NOBODY: Final = JobId(0)


class Sends(Protocol):
    """Sends a request once; :class:`batchrunner.transport.Transport` is one."""

    async def send(self, request: Request, ticket: object | None = None) -> Reply:
        """Return the whole answer or the fault; raise ``Aborted`` where ``ticket`` was refused."""
        ...


@dataclass(slots=True, kw_only=True)
class Wire:
    """A provider's profile, a base URL, a credential and an open transport."""

    profile: Profile
    base_url: str
    #: Sent with every request; holds the credential, so it is never shown or stored.
    headers: Mapping[str, str] = field(repr=False)
    #: Values that are never stored or shown; those of jobs' headers join as they are filled in.
    secrets: Secrets
    transport: Sends
    #: Whose limits these are, where no organization is known (a credential's fingerprint).
    account_key: str
    #: How the server there counts tokens against its limits.
    counting: Counting = AS_USED
    #: Fills ``${VAR}`` in a job's own headers, at the send.
    fill: Callable[[Mapping[str, str]], Mapping[str, str]]
    _urls: dict[str, str] = field(default_factory=dict)

    def request(self, job: ClaimedJob) -> Request:
        """Return the request of a stored job."""
        headers = self.headers
        if job.headers is not None:
            headers = {**headers, **self.fill(msgspec.json.decode(job.headers))}
        path = job.url
        if path is None:
            path = self.profile.default_path_for(msgspec.json.decode(job.body))
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= MOST_URLS:
                self._urls.clear()
            url = self._urls[path] = self.profile.build_url(self.base_url, path)
        body = job.body
        if MODEL in url:
            url, body = self.profile.place_model(url, body)
        return Request(method=job.method or "POST", url=url, headers=headers, body=body)

    def clean(self, reply: Reply) -> Reply:
        """Return a reply whose body lacks the secrets that the server threw back at us.

        An answer of a model does not encode them; what shows its caller's headers may.
        """
        is_answer = reply.status == 200 and not self.profile.allow_any_url
        body = self.secrets.hide_bytes(reply.body, with_base64=not is_answer)
        return reply if body is reply.body else msgspec.structs.replace(reply, body=body)

    def request_id(self, reply: Reply) -> str | None:
        """Return the provider's id of a request, to be stored."""
        found = self.profile.request_id(reply.headers)
        return found and self.secrets.hide(found)

    def organization(self, reply: Reply) -> str | None:
        """Return whose allowance a reply says was used, to be stored."""
        found = self.profile.organization(reply.headers)
        return found and self.secrets.hide(found)

    def decide(self, reply: Reply, request: Request, *, wall: int, job: JobId = NOBODY) -> Decision:  # noqa: ARG002
        """Return what a reply to a job's request means."""
        return classify(reply, self.profile, url=request.url, now_wall=wall, secrets=self.secrets)

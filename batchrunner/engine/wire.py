"""One run's way to its provider: how a stored job becomes a request and a reply a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from batchrunner.core.classify import classify
from batchrunner.core.credentials import REDACTED
from batchrunner.models import Decision, Reply, Request
from batchrunner.providers.profile import Profile
from batchrunner.store.records import ClaimedJob
from batchrunner.transport import Transport


@dataclass(slots=True, kw_only=True)
class Wire:
    """A provider's profile, a base URL, a credential and an open transport."""

    profile: Profile
    base_url: str
    #: Sent with every request; holds the credential, so it is never shown or stored.
    headers: Mapping[str, str] = field(repr=False)
    #: Exact values that are never shown; those of jobs' headers join as they are filled in.
    secrets: Sequence[str] = field(repr=False)
    transport: Transport
    #: Whose limits these are, where no organization is known (a credential's fingerprint).
    account_key: str
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
            url = self._urls[path] = self.profile.build_url(self.base_url, path)
        return Request(method=job.method or "POST", url=url, headers=headers, body=job.body)

    def hide(self, body: bytes) -> bytes:
        """Return an answer to be stored, without secrets that the server threw back at us."""
        for secret in self.secrets:
            if (exact := secret.encode()) in body:
                body = body.replace(exact, REDACTED.encode())
        return body

    def decide(self, reply: Reply, request: Request, *, wall: int) -> Decision:
        """Return what a reply means."""
        return classify(reply, self.profile, url=request.url, now_wall=wall, secrets=self.secrets)

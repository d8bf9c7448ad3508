"""Servers that speak OpenAI's language and hold limits of their own, each by its own code, headers and words.

Nothing but HTTP is shared with the program. What they do is what the providers' pages and quoted refusals say; where
a page is silent (how Mistral refills its second) the stricter way is taken.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from tests.fakes.token_server import Taken, TokenServer

DAY_S: Final = 86_400.0


class GroqServer(TokenServer):
    """Tokens a minute and requests a day, both refilled evenly; what was read from the cache counts nothing."""

    def __init__(self, tpm: int, rpd: int, *, latency_s: float = 0.0) -> None:
        """Begin with both full."""
        super().__init__({"tpm": tpm, "rpd": rpd}, latency_s=latency_s)
        self._left = {"tpm": float(tpm), "rpd": float(rpd)}
        self._at = time.monotonic()
        #: What the request that was refused last asked for.
        self._asked = 0

    def _refill(self) -> None:
        now = time.monotonic()
        for name, window in (("tpm", 60.0), ("rpd", DAY_S)):
            n = self.limits[name]
            self._left[name] = min(n, self._left[name] + n * (now - self._at) / window)
        self._at = now

    def arrive(self, body: Mapping[str, Any]) -> tuple[Taken, str]:
        """Take a request for which there is as much left as it asks for; correct that by what it used."""
        taken = self.parsed(body)
        asked = taken.input - taken.cached + taken.output
        with self._lock:
            self._refill()
            self.log.append(taken)
            for name, n in (("rpd", 1), ("tpm", asked)):
                if self._left[name] < n:
                    taken.status = 429
                    self._asked = n
                    return taken, name
            taken.status = 200
            taken.counts = {"tpm": asked}
            self._left["rpd"] -= 1
            self._left["tpm"] -= asked
        time.sleep(self.latency_s)
        return taken, ""

    def headers(self) -> dict[str, str]:
        """Return its headers: requests are the day's, tokens the minute's, resets Go's durations."""
        with self._lock:
            self._refill()
            headers = {}
            for name, kind, window in (("rpd", "requests", DAY_S), ("tpm", "tokens", 60.0)):
                n, left = self.limits[name], int(self._left[name])
                headers |= {
                    f"x-ratelimit-limit-{kind}": str(n),
                    f"x-ratelimit-remaining-{kind}": str(left),
                    f"x-ratelimit-reset-{kind}": f"{(n - left) / n * window:.3f}s",
                }
        return headers

    def refusal(self, limit: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the words that it is quoted with."""
        n, used = self.limits[limit], self.limits[limit] - int(self._left[limit])
        wait = (used + self._asked - n) / n * (60.0 if limit == "tpm" else DAY_S)
        words = "tokens per minute (TPM)" if limit == "tpm" else "requests per day (RPD)"
        message = (
            f"Rate limit reached for model `m` in organization `org_1` on {words}: Limit {n}, Used {used},"
            f" Requested {self._asked}. Please try again in {wait:.3f}s."
        )
        error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}
        return {"error": error}, {"retry-after": str(int(wait) + 1)}

    def details(self, taken: Taken) -> dict[str, Any]:
        """Say what was cached, in OpenAI's form."""
        return {"prompt_tokens_details": {"cached_tokens": taken.cached}}


class MistralServer(TokenServer):
    """Tokens and requests a minute, told; requests a second, of which no header tells. The cache counts."""

    def __init__(self, tpm: int, rpm: int, rps: int, *, latency_s: float = 0.0) -> None:
        """Begin with nothing used."""
        super().__init__({"tpm": tpm, "rpm": rpm, "rps": rps}, latency_s=latency_s)

    def _n_since(self, since: float) -> int:
        return sum(1 for taken in self.log if taken.at > since)

    def arrive(self, body: Mapping[str, Any]) -> tuple[Taken, str]:
        """Take a request if no window that ends now has too many; its tokens count when it is answered."""
        taken = self.parsed(body)
        now = taken.at
        with self._lock:
            used = {
                "rps": self._n_since(now - 1.0),
                "rpm": self._n_since(now - 60.0),
                "tpm": self.used("tpm", now),
            }
            self.log.append(taken)
            for name, n in used.items():
                if n >= self.limits[name]:
                    taken.status = 429
                    return taken, name
            taken.status = 200
        time.sleep(self.latency_s)
        with self._lock:
            taken.counts = {"tpm": taken.input + taken.output}
        return taken, ""

    def headers(self) -> dict[str, str]:
        """Return the minute's, which name no reset."""
        now = time.monotonic()
        with self._lock:
            left = {
                "req": self.limits["rpm"] - self._n_since(now - 60.0),
                "tokens": self.limits["tpm"] - self.used("tpm", now),
            }
        limits = {"req": self.limits["rpm"], "tokens": self.limits["tpm"]}
        return {
            f"x-ratelimit-{what}-{kind}-minute": str(max(0, value))
            for what, values in (("limit", limits), ("remaining", left))
            for kind, value in values.items()
        }

    def refusal(self, limit: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return its words, which do not say which limit, nor until when."""
        return {"message": "Requests rate limit exceeded"}, {}

    def details(self, taken: Taken) -> dict[str, Any]:
        """Say what was cached, in OpenAI's form."""
        return {"prompt_tokens_details": {"cached_tokens": taken.cached}}


class DeepSeekServer(TokenServer):
    """No limit but on what is in flight: a 429 means fewer at once. No header tells anything."""

    def __init__(self, in_flight: int, *, latency_s: float) -> None:
        """Begin with nobody here."""
        super().__init__({"in_flight": in_flight}, latency_s=latency_s)
        self._n_here = 0
        #: How many were here when each came.
        self.here: list[int] = []

    def arrive(self, body: Mapping[str, Any]) -> tuple[Taken, str]:
        """Take a request unless as many are here as may be."""
        taken = self.parsed(body)
        with self._lock:
            self.log.append(taken)
            self.here.append(self._n_here)
            if self._n_here >= self.limits["in_flight"]:
                taken.status = 429
                return taken, "in_flight"
            taken.status = 200
            self._n_here += 1
        time.sleep(self.latency_s)
        with self._lock:
            self._n_here -= 1
        return taken, ""

    def refusal(self, limit: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return its words, without any time."""
        return {"error": {"message": "Rate limit reached", "type": "rate_limit_error"}}, {}

    def details(self, taken: Taken) -> dict[str, Any]:
        """Say what was cached, in a form of its own."""
        return {
            "prompt_cache_hit_tokens": taken.cached,
            "prompt_cache_miss_tokens": taken.input - taken.cached,
        }

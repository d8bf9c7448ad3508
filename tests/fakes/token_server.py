"""A server that counts tokens against limits by its own code, in each provider's way.

A prompt of the form ``... in=N out=M`` takes N input and M output tokens, whatever it says otherwise;
``cached=K`` of the input are read from a cache. It shares nothing with the program but HTTP.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal

#: ``anthropic``: cache reads don't count, output when it is there; ``haiku``: they do; ``openai``: the larger of
#: ``max_tokens`` and the guessed input, up front, refusals too; ``azure``: their sum; ``gemini``: input
#: alone; ``used``: all that was used, once it was (most gateways).
Way = Literal["anthropic", "haiku", "openai", "azure", "gemini", "used"]

_TAKES: Final = re.compile(r"in=(\d+) out=(\d+)(?: cached=(\d+))?")


@dataclass
class Taken:
    """One request as it arrived, and what became of it."""

    at: float
    prompt: str
    input: int
    output: int
    #: What of the input was read from the cache.
    cached: int = 0
    #: The bound on its answer; 0: none.
    most: int = 0
    status: int = 0
    #: What it counts: (unit, tokens).
    counts: dict[str, int] = field(default_factory=dict)


class TokenServer:
    """Limits by name: ``tpm``, ``itpm``, ``otpm``, ``tpd``, over windows that slide."""

    def __init__(
        self,
        limits: Mapping[str, int],
        way: Way = "used",
        *,
        tells: bool = False,
        latency_s: float = 0.0,
        foreign: int = 0,
    ) -> None:
        """Take the limits; ``tells``: in Anthropic's headers; ``foreign`` tokens others have used."""
        self.limits, self.way, self.tells, self.latency_s = dict(limits), way, tells, latency_s
        self.foreign = foreign
        self.log: list[Taken] = []
        self.url = ""
        self._lock = threading.Lock()

    @property
    def refused(self) -> list[Taken]:
        """The requests that passed a limit."""
        return [taken for taken in self.log if taken.status == 429]

    @property
    def served(self) -> list[Taken]:
        """The others."""
        return [taken for taken in self.log if taken.status == 200]

    def used(self, unit: str, now: float, window_s: float = 60.0) -> int:
        """Return what counts at an instant."""
        return self.foreign + sum(
            taken.counts.get(unit, 0) for taken in self.log if taken.at > now - window_s
        )

    def parsed(self, body: Mapping[str, Any]) -> Taken:
        """Return what a request asks for."""
        prompt, most = _asked(body)
        match = _TAKES.search(prompt)
        n_in, n_out, cached = (int(n or 0) for n in match.groups()) if match else (1, 1, 0)
        return Taken(
            time.monotonic(), prompt, n_in, min(n_out, most) if most else n_out, cached, most
        )

    def arrive(self, body: Mapping[str, Any]) -> tuple[Taken, str]:
        """Take or refuse a request; return it, and the limit that it passed."""
        taken = self.parsed(body)
        now, n_in, cached, most = taken.at, taken.input, taken.cached, taken.most
        if self.way in ("anthropic", "haiku"):
            counted = n_in if self.way == "haiku" else n_in - cached
            up_front = {"itpm": counted, "otpm": 0, "tpm": counted}
            after = {"otpm": taken.output, "tpm": taken.output}
        elif self.way == "openai":
            up_front, after = dict.fromkeys(("tpm", "tpd"), max(most, n_in)), {}
        elif self.way == "azure":
            up_front, after = {"tpm": n_in + most}, {}
        elif self.way == "gemini":
            up_front, after = {"tpm": n_in, "tpd": n_in}, {}
        else:
            up_front, after = {}, {"itpm": n_in, "otpm": taken.output}
            after |= dict.fromkeys(("tpm", "tpd"), n_in + taken.output)
        with self._lock:
            for name, n in self.limits.items():
                window = 86_400.0 if name == "tpd" else 60.0
                used = self.used(name, now, window)
                if used + up_front.get(name, 0) > n or (name in after and used >= n):
                    taken.status = 429
                    if self.way == "openai":
                        taken.counts = dict(up_front)
                    self.log.append(taken)
                    return taken, name
            taken.status = 200
            taken.counts = dict(up_front)
            self.log.append(taken)
        time.sleep(self.latency_s)
        with self._lock:
            for name, n in after.items():
                taken.counts[name] = taken.counts.get(name, 0) + n
        return taken, ""

    def headers(self) -> dict[str, str]:
        """Return what it tells of its limits."""
        if not self.tells:
            return {}
        told = {"itpm": "input-tokens", "otpm": "output-tokens", "tpm": "tokens"}
        now = time.monotonic()
        return {
            f"anthropic-ratelimit-{told[name]}-{what}": str(value)
            for name, n in self.limits.items()
            if name in told
            for what, value in (("limit", n), ("remaining", max(0, n - self.used(name, now))))
        }

    def refusal(self, limit: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the body and the headers of a 429 for that limit."""
        error = {
            "type": "rate_limit_error",
            "message": f"This request would exceed the rate limit of {self.limits[limit]:,}"
            f" {_WORDS[limit]}.",
        }
        return {"type": "error", "error": error}, {"retry-after": "1"}

    def details(self, taken: Taken) -> dict[str, Any]:
        """Return what usage in OpenAI's form has besides."""
        return {}


def _asked(body: Mapping[str, Any]) -> tuple[str, int]:
    """Return the prompt, and the bound on its answer, 0 for none; in Gemini's form too."""
    if "contents" in body:
        bound = (body.get("generationConfig") or {}).get("maxOutputTokens")
        return body["contents"][-1]["parts"][-1]["text"], int(bound or 0)
    return body["messages"][-1]["content"], int(body.get("max_tokens") or 0)


_WORDS: Final = {
    "itpm": "input tokens per minute",
    "otpm": "output tokens per minute",
    "tpm": "tokens per minute",
    "tpd": "tokens per day",
}


@contextmanager
def running(server: TokenServer) -> Iterator[TokenServer]:
    """Serve on a port of its own until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            taken, limit = server.arrive(body)
            if taken.status == 429:
                self._answer(429, *server.refusal(limit))
            elif "/messages" in self.path:
                usage = {
                    "input_tokens": taken.input - taken.cached,
                    "cache_read_input_tokens": taken.cached,
                    "output_tokens": taken.output,
                }
                self._answer(200, {
                    "type": "message", "model": body["model"], "stop_reason": "end_turn",
                    "content": [{"type": "text", "text": "ok"}], "usage": usage,
                })  # fmt: skip
            elif ":generateContent" in self.path:
                self._answer(200, {
                    "candidates": [
                        {"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}
                    ],
                    "usageMetadata": {
                        "promptTokenCount": taken.input, "candidatesTokenCount": taken.output,
                    },
                })  # fmt: skip
            else:
                self._answer(200, {
                    "model": body["model"],
                    "choices": [{"finish_reason": "stop", "message": {"content": "ok"}}],
                    "usage": {
                        "prompt_tokens": taken.input, "completion_tokens": taken.output,
                        **server.details(taken),
                    },
                })  # fmt: skip

        def _answer(
            self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
        ) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**server.headers(), **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()

"""A provider as a frozen value: everything that differs from one provider to the next.

Nothing here is sent or read; functions take and return values. The names that
:mod:`batchrunner.formats` asks of a provider (``LineRules``) and those that
:mod:`batchrunner.core.classify` asks (``Tongue``) are all here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from batchrunner.core.caching import Caching
from batchrunner.core.classify import Answer, Rule
from batchrunner.core.counting import AS_USED, Counting, UpFront
from batchrunner.core.credentials import Credential
from batchrunner.models import Usage

__all__ = ["MODEL", "Body", "HeaderMaker", "PathRules", "Profile", "Variant"]

#: In a path: the place of the body's model.
MODEL: Final = "{model}"

#: The end of an address that is an endpoint, not a base.
_ENDPOINT: Final = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|moderations|messages"
    r"|models/[^/]+:[A-Za-z]+)/?$"
)
#: A version at the end of a base URL.
_VERSION: Final = re.compile(r"/v\d+[a-z]*\d*/?$")

#: A request body as a JSON object.
Body = Mapping[str, Any]
#: (credential, API version, environment) → headers, names in lower case.
HeaderMaker = Callable[[Credential | None, str | None, Mapping[str, str]], dict[str, str]]

#: (profile, base URL, API version typed, environment) → the profile as it speaks there.
Variant = Callable[["Profile", str, str | None, Mapping[str, str]], "Profile"]

_NO_ENVIRON: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRules:
    """How paths are joined to base URLs, where a provider has more than a ``/v1`` to care for."""

    #: (base URL without query, path, API version) → base URL and path as they are joined; the path
    #: may hold :data:`MODEL`.
    arrange: Callable[[str, str, str], tuple[str, str]]
    #: Query parameter that carries the API version, where one does.
    version_query: str = ""
    #: The start of a line's path that names a model, as its group ``model``; and what stands for it.
    names_model: tuple[re.Pattern[str], str] | None = None
    #: Whether a model that goes in the path does not go in the body.
    drops_model: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One provider: addresses, credentials, request and answer forms, rules."""

    name: str
    #: As people write it.
    title: str
    #: ``None``: a base URL must be given (or the program starts the server itself).
    default_base_url: str | None
    #: Variable that replaces the default base URL; empty for none.
    base_url_env: str = ""
    #: Variables that may hold the credential, in order; each also as ``NAME_FILE``.
    key_envs: tuple[str, ...] = ()
    #: What a base URL has to be, in one sentence.
    base_rule: str
    #: Whether the provider's SDK expects ``/v1`` at the end of its base URL.
    base_has_version: bool
    #: Where models are listed, as a path like those of job lines; ``None``: nowhere.
    models_path: str | None
    #: Whether what is listed there is what a line's model names.
    lists_models: bool = True
    needs_model: bool
    demands_max_tokens: bool
    #: Lines may name any method and address (plain HTTP).
    allow_any_url: bool
    #: A 2xx that is no JSON object is no answer.
    answers_json: bool
    default_api_version: str | None = None
    #: An IANA zone, or ``rolling``.
    day_zone: str = "UTC"
    #: Response header that names the organization; ``None``: none does.
    organization_header: str | None = None
    #: Response headers that name the request, the first found counts.
    request_id_headers: tuple[str, ...] = ("request-id", "x-request-id")
    #: Sent with every request, ``NAME: VALUE`` with ``${VAR}`` unfilled, before those typed.
    fixed_headers: tuple[str, ...] = ()
    rules: Sequence[Rule]
    #: Whether ``x-ratelimit-limit-requests`` is always a minute's or a day's; ``None``: told by its
    #: refill.
    requests_limit: Literal["rpm", "rpd"] | None = None
    #: How it counts tokens against its limits.
    counting: Counting = AS_USED
    #: What it keeps of requests for those that begin alike; ``None``: nothing that is known.
    caching: Caching | None = None
    #: Whether ``x-ratelimit-limit-tokens`` is always a minute's; else it is told by its refill.
    tokens_limit: Literal["tpm"] | None = None
    #: Hosts, or ends of hosts that begin with a dot, that are the provider's own besides that of
    #: ``default_base_url``.
    own_hosts: tuple[str, ...] = ()
    paths: PathRules | None = None
    #: Body of a job → path and body of the request that counts its tokens, ``None`` for a job of which
    #: they are not counted; ``None``: there is no such endpoint.
    count: Callable[[Body], tuple[str, Body] | None] | None = None
    #: What changes with the address or the API version; ``None``: nothing.
    variant: Variant | None = None

    #: The path for every line that names none; ``None``: it depends on the body.
    fixed_path: str | None
    #: Body → path for a line that names none.
    default_path_for: Callable[[Body], str]
    make_headers: HeaderMaker
    #: (body, path) → usage and whether it is an error; ``ValueError`` if it can't be read.
    read: Callable[[bytes, str], Answer]
    #: (body, path) → the text for a person's table; ``None`` where there is none.
    output_text: Callable[[bytes, str | None], str | None]
    #: Model → the name of the pool of models that share a limit.
    pool_of: Callable[[str], str]

    @property
    def key_required(self) -> bool:
        """Whether a credential is needed at the provider's own address."""
        return bool(self.key_envs)

    def is_own(self, base_url: str) -> bool:
        """Return whether ``base_url`` is the provider's own address, not a gateway."""
        scheme, host, _ = origin = _origin(base_url)
        if scheme == "https" and host and any(_is_host(host, own) for own in self.own_hosts):
            return True
        return self.default_base_url is not None and origin == _origin(self.default_base_url)

    def counting_at(self, base_url: str) -> Counting:
        """Return how tokens are counted at an address.

        A gateway may count in its own way; what most do is to add up what was used.
        """
        if self.is_own(base_url):
            return self.counting
        return replace(self.counting, up_front=UpFront.AS_USED, refused=False)

    def meant_base(self, url: str) -> str:
        """Return the base URL that is likely meant where requests to ``url`` lead nowhere.

        What is looked for: the version at its end that the provider's SDK expects, and a whole
        endpoint that was given for a base. Empty where neither is it.
        """
        if self.default_base_url is not None and self.is_own(url):
            return "" if url.startswith(f"{self.default_base_url}/") else self.default_base_url
        base, n_endpoints = url, 0
        while (end := _ENDPOINT.search(base)) is not None:
            base, n_endpoints = base[: end.start()], n_endpoints + 1
            if not self.base_has_version:
                base = _VERSION.sub("", base)
        version = _VERSION.search(self.default_base_url or "") if self.base_has_version else None
        if n_endpoints and version is not None and _VERSION.search(base) is None:
            return base + version[0]
        return base if n_endpoints > 1 else ""

    def at(
        self,
        base_url: str | None,
        api_version: str | None = None,
        environ: Mapping[str, str] = _NO_ENVIRON,
    ) -> Profile:
        """Return the profile as it speaks at an address (``None``: its own) under a version."""
        if self.variant is None:
            return self
        return self.variant(self, base_url or self.default_base_url or "", api_version, environ)

    def base_url(
        self, typed: str | None, environ: Mapping[str, str], configured: str | None = None
    ) -> str | None:
        """Return the base URL in force: typed (or stored), the environment's, the configuration's,
        the default.
        """
        from_environ = environ.get(self.base_url_env, "").strip() if self.base_url_env else ""
        return typed or from_environ or configured or self.default_base_url

    def with_key_of(self, source: str) -> Profile:
        """Return the profile with the variable that held the key first, to be named in fixes."""
        name = source.removesuffix("_FILE")
        if name not in self.key_envs[1:]:
            return self
        return replace(self, key_envs=tuple(sorted(self.key_envs, key=lambda other: other != name)))

    def default_path(self, body: bytes) -> str:
        """Return the path for a stored body whose line named none, for a person to see.

        :raises ValueError: the path depends on a body that is no JSON object.
        """
        if self.fixed_path is not None:
            return self.fixed_path
        decoded = msgspec.json.decode(body, type=dict[str, Any])
        return _filled(self.default_path_for(decoded), decoded)

    def read_path(self, path: str) -> tuple[str, str | None]:
        """Return the path of a line with its model taken out, and the model; else it as it is."""
        if self.paths is None or self.paths.names_model is None:
            return path, None
        pattern, start = self.paths.names_model
        match = pattern.match(path)
        if match is None:
            return path, None
        return f"{start}{path[match.end() :]}", unquote(match["model"])

    def show_path(self, path: str, body: Body) -> str:
        """Return a stored path with the body's model in its place."""
        return _filled(path, body)

    def place_model(self, url: str, body: bytes) -> tuple[str, bytes]:
        """Return an address that holds :data:`MODEL`, and the body, as they are sent."""
        decoded = msgspec.json.decode(body, type=dict[str, Any])
        url = _filled(url, decoded)
        if self.paths is None or not self.paths.drops_model:
            return url, body
        del decoded["model"]
        return url, msgspec.json.encode(decoded)

    def build_url(self, base_url: str, path: str) -> str:
        """Return the absolute address of ``path`` (or of an absolute URL, as it is).

        A base URL means what the provider's own SDK means by it; a ``/v1`` that both the base URL
        and the path bring is there once.
        """
        if "://" in path:
            return path
        base, mark, query = base_url.partition("?")
        base = base.rstrip("/")
        path = "/" + path.lstrip("/") if path else ""
        if self.paths is not None:
            named = f"{self.paths.version_query}=" in query if self.paths.version_query else False
            version = "" if named else self.default_api_version or ""
            base, path = self.paths.arrange(base, path, version)
        elif path.startswith("/v1/") and (self.base_has_version or base.endswith("/v1")):
            path = path.removeprefix("/v1")
        joint = "&" if "?" in path else "?"
        return f"{base}{path}{joint}{query}" if mark and query else f"{base}{path}"

    def headers(
        self,
        credential: Credential | None,
        api_version: str | None = None,
        environ: Mapping[str, str] = _NO_ENVIRON,
    ) -> dict[str, str]:
        """Return what goes with every request, the credential included; names in lower case."""
        return self.make_headers(credential, api_version or self.default_api_version, environ)

    def usage(self, body: bytes, path: str = "") -> Usage:
        """Return what an answer says it cost; all unknown where it can't be read."""
        try:
            return self.read(body, path).usage
        except (ValueError, RecursionError):
            return Usage()

    def organization(self, headers: Mapping[str, str]) -> str | None:
        """Return whose allowance a response says it used; ``headers`` in lower case."""
        return headers.get(self.organization_header) if self.organization_header else None

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """Return the provider's id of a request, for its support desk."""
        for name in self.request_id_headers:
            if name in headers:
                return headers[name]
        return None


def _filled(path: str, body: Body) -> str:
    """Put the body's model where a path wants it; ``models/x`` is a name of x."""
    if MODEL not in path:
        return path
    model = str(body.get("model", "")).removeprefix("models/")
    return path.replace(MODEL, quote(model, safe=""))


def _is_host(host: str, own: str) -> bool:
    return host.endswith(own) if own.startswith(".") else host == own


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parsed = URL(url.strip())
    except ValueError:
        return "", None, None
    return parsed.scheme, parsed.host, parsed.port

"""What is in force for a call, key by key, and who says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from batchrunner.config import forms
from batchrunner.config.keys import KEYS, Goes, Key
from batchrunner.config.resolve import Config
from batchrunner.core.credentials import REDACTED, redact
from batchrunner.core.key_forms import looks_like_key
from batchrunner.transport.proxies import without_password

__all__ = ["DB_VARIABLE", "InForce", "values_in_force"]

DB_VARIABLE = "BATCHRUNNER_DB"
_PROXY_VARIABLES = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
)


class InForce(NamedTuple):
    """One key and the value that holds."""

    key: str
    #: As it is written; ``None``: nobody says one, and the default holds.
    value: Any
    #: ``option``, ``environment``, ``file`` or ``default``.
    source: str
    #: The option, the variable, ``FILE:LINE``; ``None`` for the default.
    place: str | None
    #: What holds where nobody says anything, in words.
    default: str


def values_in_force(
    config: Config,
    environ: Mapping[str, str],
    *,
    provider: str | None = None,
    typed: Mapping[str, str],
) -> Iterator[InForce]:
    """Yield every key with the value in force for a provider's runs, and its source.

    Args:
        config: the configuration.
        environ: variables that come before it.
        provider: whose runs; ``None``: those of the provider that the configuration names.
        typed: keys that an option of this call says.
    """
    provider = provider or config.provider
    for key in KEYS.values():
        yield _in_force(key, config, environ, provider, typed)


def _in_force(
    key: Key,
    config: Config,
    environ: Mapping[str, str],
    provider: str | None,
    typed: Mapping[str, str],
) -> InForce:
    default = _default(key, config, provider)
    if key.name in typed:
        return InForce(key.name, typed[key.name], "option", key.option, default)
    for variable in _variables(key, config, provider):
        if text := environ.get(variable, "").strip():
            return InForce(key.name, _shown(key, text), "environment", variable, default)
    found = config.setting(key.name, provider)
    if found is not None:
        said = found.said
        if isinstance(said, str) and key.form is forms.PATH and _is_misplaced(found.value):
            said = REDACTED
        if key.name == "webhook":
            said = _host_of(str(said))
        return InForce(key.name, said, "file", found.place, default)
    return InForce(key.name, None, "default", None, default)


def _variables(key: Key, config: Config, provider: str | None) -> tuple[str, ...]:
    """Return the variables that come before the configuration, in their order."""
    if key.goes is Goes.PROGRAM:
        return (DB_VARIABLE,)
    if key.name == "proxy":
        return _PROXY_VARIABLES
    if key.name == "base_url" and provider is not None:
        return tuple(filter(None, [config.providers.profile(provider).base_url_env]))
    return ()


def _default(key: Key, config: Config, provider: str | None) -> str:
    if provider is None:
        return key.default
    known = config.providers.profile(provider)
    own = {
        "base_url": known.default_base_url,
        "api_version": known.default_api_version,
        "day_resets": known.day_zone,
    }
    return own.get(key.name) or key.default


def _is_misplaced(path: str) -> bool:
    """Whether a key stands in the place of a file's name: nothing is called so, and nobody would."""
    try:
        return looks_like_key(Path(path).name) and not Path(path).exists()
    except OSError:
        # Too long a name, or a folder that nobody may look into.
        return True


def _host_of(address: str) -> str:
    """Return a webhook's address without its path, which often is the key to it."""
    scheme, mark, rest = address.partition("://")
    host, slash, _ = rest.rpartition("@")[2].partition("/")
    return f"{scheme}{mark}{host}{slash}…" if slash and "${" not in address else address


def _shown(key: Key, text: str) -> str:
    """Return a variable's value without what must not be shown."""
    return redact(without_password(text) if key.name in ("proxy", "base_url") else text)

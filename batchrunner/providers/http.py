"""Any HTTP API: every 2xx is an answer, its body as it is, and only the generic rules hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchrunner.core.classify import Answer
from batchrunner.core.credentials import Credential
from batchrunner.models import Usage
from batchrunner.providers.profile import Profile

__all__ = ["HTTP"]

_ANSWER: Final = Answer(Usage(), False)


def _headers(
    _credential: Credential | None, _api_version: str | None, _environ: Mapping[str, str]
) -> dict[str, str]:
    return {}


def _output_text(body: bytes, path: str | None) -> str | None:  # noqa: ARG001
    return body.decode("utf-8", "replace")


HTTP: Final = Profile(
    name="http",
    title="HTTP",
    default_base_url=None,
    base_rule="A line's relative url is appended to the base URL.",
    base_has_version=False,
    models_path=None,
    needs_model=False,
    demands_max_tokens=False,
    allow_any_url=True,
    answers_json=False,
    rules=(),
    fixed_path="",
    default_path_for=lambda _body: "",
    make_headers=_headers,
    read=lambda _body, _path: _ANSWER,
    output_text=_output_text,
    pool_of=lambda model: model,
)

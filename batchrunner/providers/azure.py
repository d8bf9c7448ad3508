"""Azure OpenAI as data: OpenAI's bodies and answers, at addresses of one's own.

The base URL is the resource's (``https://NAME.openai.azure.com``). A line's model is the deployment's name
and goes into the path, the API version into the query; at a base URL that ends in ``/openai/v1`` both
stay where OpenAI has them.

The traps (PROVIDERS §3.6): numbers of -1 or 0 in headers mean *unknown*; a 429 may be the region's
capacity and not the deployment's quota; a quota of API Management that is spent is a 403.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.counting import Counting, UpFront
from batchrunner.core.credentials import Credential
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers.openai import OPENAI
from batchrunner.providers.profile import MODEL, PathRules, Profile

__all__ = ["AZURE", "RULES"]

_VERSION_FIX: Final = "Give one that the resource has: batchrunner resume --api-version 2024-10-21"

RULES: Final = (
    Rule(
        id="azure-quota-period",
        statuses=(403,),
        message_re=words(r"\bquota\b"),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        account_wide=True,
        reset=Reset.HINT,
    ),
    Rule(
        id="azure-deployment",
        statuses=(404,),
        codes=frozenset({"deploymentnotfound"}),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        says="The resource has no deployment of that name (a line's model is the deployment's name)",
        fix="Give a deployment's name, not a model's: batchrunner resume --set model=DEPLOYMENT",
    ),
    Rule(
        id="azure-wrong-model",
        statuses=(400,),
        codes=frozenset({"operationnotsupported"}),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        says="The deployment's model does not do what was asked of it",
        fix="Give another deployment: batchrunner resume --set model=DEPLOYMENT",
    ),
    Rule(
        id="azure-api-version",
        statuses=(400, 404),
        message_re=words(r"api[ -]version[^.]{0,60}not supported|missing[^.]{0,40}api-version"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.INVALID_REQUEST,
        account_wide=True,
        says="The resource does not know the API version",
        fix=_VERSION_FIX,
    ),
    Rule(
        id="azure-network",
        statuses=(403,),
        message_re=words(r"virtual network|firewall|public access|private endpoint"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The resource's network rules refuse the address this machine connects from",
        fix="Have it added in the resource's page Networking, then: batchrunner resume; or leave by"
        " one that is: batchrunner resume --proxy URL",
    ),
    Rule(
        id="azure-role",
        statuses=(401, 403),
        codes=frozenset({"permissiondenied"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The identity behind the token lacks a role on the resource",
        fix="Give it the role Cognitive Services OpenAI User, then: batchrunner resume",
    ),
    Rule(
        id="azure-capacity",
        statuses=(429,),
        message_re=words(r"high demand|temporarily unable"),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
)


def _headers(
    credential: Credential | None, _api_version: str | None, _environ: Mapping[str, str]
) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if credential is None:
        return headers
    if credential.source.startswith("AZURE_OPENAI_AD_TOKEN"):
        return {**headers, "authorization": f"Bearer {credential.value}"}
    return {**headers, "api-key": credential.value}


#: Endpoints that belong to a deployment; the others take the model in the body.
_OF_DEPLOYMENT: Final = re.compile(r"^/(?:chat/completions|completions|embeddings)$")


def _arrange(base: str, path: str, version: str) -> tuple[str, str]:
    path = path.removeprefix("/v1")
    if base.endswith("/openai/v1"):
        return base, path
    asked = f"{path}{'&' if '?' in path else '?'}api-version={version}" if version else path
    if "/openai/deployments/" in base:
        return base, asked
    if not base.endswith("/openai"):
        base += "/openai"
    return base, f"/deployments/{MODEL}{asked}" if _OF_DEPLOYMENT.match(path) else asked


def _at(
    profile: Profile, _base_url: str, api_version: str | None, environ: Mapping[str, str]
) -> Profile:
    version = api_version or environ.get("OPENAI_API_VERSION", "").strip()
    return dataclasses.replace(profile, default_api_version=version) if version else profile


AZURE: Final = dataclasses.replace(
    OPENAI,
    name="azure",
    title="Azure OpenAI",
    default_base_url=None,
    base_url_env="AZURE_OPENAI_ENDPOINT",
    key_envs=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    base_rule="Azure's base URL is that of your resource: https://NAME.openai.azure.com.",
    models_path="/v1/models",
    # A line names a deployment.
    lists_models=False,
    # The latest that is generally available for addresses with deployments.
    default_api_version="2024-10-21",
    day_zone="UTC",
    organization_header=None,
    request_id_headers=("apim-request-id", "x-ms-request-id", "x-request-id"),
    requests_limit="rpm",
    counting=Counting(up_front=UpFront.SUM),
    caching=AUTOMATIC,
    own_hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
    rules=RULES,
    paths=PathRules(arrange=_arrange, version_query="api-version"),
    variant=_at,
    make_headers=_headers,
    # Quotas are a deployment's.
    pool_of=lambda model: model,
)

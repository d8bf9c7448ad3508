"""Each provider over a real socket, in its own form: answers, hints, days, keys, models and money."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import ApiServer
from tests.integration.house import Done, House
from tests.unit.provider_replies import (
    DAY,
    MINUTE,
    QUOTA,
    anthropic,
    delay,
    google,
    mistral,
    openai,
    openrouter,
    reason,
    violated,
)

KEY = "k" * 40


def midnight(zone: str) -> float:
    """Return when the day ends there, epoch seconds."""
    tomorrow = (datetime.now(ZoneInfo(zone)) + timedelta(days=1)).date()
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZoneInfo(zone)).timestamp()


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """An answer of OpenAI's language."""
    return {
        "id": "x",
        "model": "m-1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
        **fields,
    }


CANDIDATE = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 4, "thoughtsTokenCount": 3},
    "modelVersion": "m-1",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One scripted reply."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def rule(self) -> dict[str, Any]:
        """A rule of the fake provider's script."""
        return {"status": self.status, "headers": self.headers, "body": self.body}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One provider: how it is asked, and what it says."""

    name: str
    #: Appended to the fake's address.
    base: str = "/v1"
    key: str
    auth_in: str = "authorization"
    path: str = "/v1/chat/completions"
    query: dict[str, str] = field(default_factory=dict)
    answer: Any = field(default_factory=chat)
    finish: str = "stop"
    #: A wait of less than a second.
    limited: Reply
    #: The day is used up: the reply, and until when (epoch s); ``None``: it has no day.
    day: Reply | None = None
    until: Any = None
    bad_key: Reply
    no_model: Reply
    no_credit: Reply
    #: Exit kind of ``no_credit``.
    money: str = "credit"


FORMS = [
    Form(
        name="gemini",
        base="",
        key="GEMINI_API_KEY",
        auth_in="x-goog-api-key",
        path="/v1beta/models/m:generateContent",
        answer=CANDIDATE,
        finish="STOP",
        limited=Reply(status=429, body=google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(MINUTE), delay("0.2s"))),
        day=Reply(status=429, body=google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(DAY), delay("38s"))),
        until=lambda: midnight("America/Los_Angeles"),
        bad_key=Reply(status=400, body=google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason("API_KEY_INVALID"))),
        no_model=Reply(status=404, body=google(404, "NOT_FOUND", "models/m is not found for API version v1beta")),
        no_credit=Reply(status=400, body=google(400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.")),
        money="permission",
    ),
    Form(
        name="groq",
        key="GROQ_API_KEY",
        limited=Reply(status=429, body=openai("Rate limit reached for model `m` on tokens per minute (TPM): Limit 6000, Used 5990, Requested 30. Please try again in 200ms.", "rate_limit_exceeded", "tokens")),
        day=Reply(status=429, headers={"retry-after": "1728"}, body=openai("Rate limit reached for model `m` on requests per day (RPD): Limit 50, Used 50, Requested 1. Please try again in 28m48s.", "rate_limit_exceeded", "requests")),
        until=lambda: time.time() + 1728,
        bad_key=Reply(status=401, body=openai("Invalid API Key", "invalid_api_key")),
        no_model=Reply(status=404, body=openai("The model `m` does not exist or you do not have access to it.", "model_not_found")),
        no_credit=Reply(status=400, body=openai("Organization has been restricted. Please reach out to support if you believe this was in error.", "organization_restricted")),
        money="permission",
    ),
    Form(
        name="openrouter",
        key="OPENROUTER_API_KEY",
        limited=Reply(status=429, headers={"retry-after": "0.2"}, body=openrouter(429, "Rate limit exceeded: free-models-per-min.")),
        # The true status of an error inside an HTTP 200.
        day=Reply(status=200, body=openrouter(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day")),
        until=lambda: midnight("UTC"),
        bad_key=Reply(status=401, body=openrouter(401, "User not found.")),
        no_model=Reply(status=404, body=openrouter(404, "No endpoints found for m.")),
        no_credit=Reply(status=402, body=openrouter(402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits", limit_source="openrouter_credits")),
    ),
    Form(
        name="mistral",
        key="MISTRAL_API_KEY",
        limited=Reply(status=429, headers={"retry-after": "0.2"}, body={"message": "Requests rate limit exceeded"}),
        day=Reply(status=429, body=mistral("You have used up the tokens per month of your workspace.")),
        bad_key=Reply(status=401, body={"message": "Unauthorized", "request_id": "r"}),
        no_model=Reply(status=400, body=mistral("Invalid model: m", "invalid_model", "1500")),
        no_credit=Reply(status=402, body={"message": "Payment required"}),
    ),
    Form(
        name="deepseek",
        base="",
        key="DEEPSEEK_API_KEY",
        path="/chat/completions",
        # While a request is queued the server sends empty lines.
        answer="\n\n\n" + json.dumps(chat()),
        limited=Reply(status=429, headers={"retry-after": "0.2"}, body=openai("Rate limit reached")),
        bad_key=Reply(status=401, body=openai("Authentication Fails, Your api key: ****abcd is invalid", "invalid_request_error")),
        no_model=Reply(status=400, body=openai("Model Not Exist", "invalid_request_error")),
        no_credit=Reply(status=402, body=openai("Insufficient Balance", "invalid_request_error")),
    ),
    Form(
        name="azure",
        base="",
        key="AZURE_OPENAI_API_KEY",
        auth_in="api-key",
        path="/openai/deployments/m/chat/completions",
        query={"api-version": "2024-10-21"},
        limited=Reply(status=429, headers={"retry-after-ms": "200", "retry-after": "1"}, body=openai("exceeded token rate limit of your current pricing tier. Please retry after 1 second.", "429")),
        day=Reply(status=403, body={"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 00:54:20."}),
        until=lambda: time.time() + 3260,
        bad_key=Reply(status=401, body=openai("Access denied due to invalid subscription key or wrong API endpoint.", "401")),
        no_model=Reply(status=404, body=openai("The API deployment for this resource does not exist.", "DeploymentNotFound")),
        no_credit=Reply(status=403, body=openai("Access denied due to Virtual Network/Firewall rules.", "AccessDenied")),
        money="permission",
    ),
]  # fmt: skip
each = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])


def submit(house: House, form: Form, *args: str, code: int = 0) -> Done:
    """Submit the jobs to the fake, as that provider's."""
    return house.run(
        "submit", "jobs.jsonl", "--provider", form.name, "--base-url", f"{house.url}{form.base}",
        "--model", "m", "--json", *args, code=code, environ={form.key: KEY},
    )  # fmt: skip


@each
def test_a_prompt_is_asked_and_answered_in_the_providers_form(
    house: House, api: ApiServer, form: Form
) -> None:
    """Path, query, credential header and body are the provider's; text, tokens and finish reason come back; a wait it names is kept."""
    api.script([{"n": 1, **form.limited.rule}, {"status": 200, "body": form.answer}])
    house.jobs(2)
    submit(house, form, "--system", "be brief", "--max-tokens", "9")
    seen = api.requests()
    assert [request.status for request in seen] == [429, 200, 200]
    assert {(r.path, tuple(r.query.items()), tuple(r.auth_in)) for r in seen} == {
        (form.path, tuple(form.query.items()), (form.auth_in,))
    }
    body = seen[0].json
    if form.name == "gemini":
        assert body == {
            "contents": [{"role": "user", "parts": [{"text": "say j0;"}]}],
            "generationConfig": {"maxOutputTokens": 9},
            "systemInstruction": {"parts": [{"text": "be brief"}]},
        }
    else:
        assert (body["model"], body["max_tokens"]) == ("m", 9)
        assert [message["content"] for message in body["messages"]] == ["be brief", "say j0;"]
    assert seen[1].mono - seen[0].mono >= 0.2
    for row in house.csv():
        assert (row["output_text"], row["finish_reason"]) == ("hello", form.finish)
        assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("m-1", "11", "7")
        assert row["attempts"] == "1"
    for kind in ("jsonl", "openai", "anthropic", "input"):
        assert len(house.run("export", "-f", kind).out.splitlines()) == 2
    inputs = [json.loads(line) for line in house.run("export", "-f", "input").out.splitlines()]
    assert inputs[0] == {
        "id": "j0", "prompt": "say j0;", "model": "m", "system": "be brief", "max_tokens": 9,
    }  # fmt: skip


@pytest.mark.parametrize(
    "form", [form for form in FORMS if form.day], ids=[form.name for form in FORMS if form.day]
)
def test_a_used_up_day_is_waited_for_until_the_provider_turns_it(
    house: House, api: ApiServer, form: Form
) -> None:
    """One request finds out; nothing fails; the message names the instant."""
    assert form.day is not None
    api.script([form.day.rule])
    house.jobs(3)
    is_month = form.until is None
    done = submit(house, form, "--no-wait", code=4 if is_month else 3)
    assert len(api.requests()) == 1
    assert done.error["kind"] == ("spend_limit" if is_month else "daily_limit")
    waiting = house.status().waiting
    assert waiting is not None
    assert waiting.until is not None
    if is_month:
        until = datetime.fromtimestamp(waiting.until / 1000, UTC)
        assert (until.day, until.hour, until.minute) == (1, 0, 0)
    else:
        assert abs(waiting.until / 1000 - form.until()) < 30
    assert house.counts().pending == 3


@each
@pytest.mark.parametrize("what", ["bad_key", "no_model", "no_credit"])
def test_a_refusal_costs_one_request_and_says_what_to_do(
    house: House, api: ApiServer, form: Form, what: str
) -> None:
    """The run halts with exit 4 and the kind of the refusal; nothing has failed; the fix names what to change."""
    reply: Reply = getattr(form, what)
    api.script([reply.rule])
    house.jobs(3)
    done = submit(house, form, code=4)
    assert len([r for r in api.requests() if r.method == "POST"]) == 1
    kind = {"bad_key": "authentication", "no_model": "model_not_found", "no_credit": form.money}
    assert done.error["kind"] == kind[what]
    assert done.error["fix"]
    assert house.counts().pending == 3
    told = done.error["message"] + done.error["fix"]
    assert KEY not in told
    if what == "no_model":
        assert "--set model=" in told
        api.script([{"status": 200, "body": form.answer}])
        house.resume("--set", "model=other", environ={form.key: KEY})
        path = api.requests()[-1].path
        assert path == form.path.replace("/m:", "/other:").replace("/m/", "/other/")
        if form.name != "gemini":
            assert api.requests()[-1].json["model"] == "other"


@each
def test_doctor_asks_each_provider_for_its_list(house: House, api: ApiServer, form: Form) -> None:
    """With a good key the list tells of the model (Azure's can't, of a deployment); a bad one is told, exit 4."""
    listed = (
        {"models": [{"name": "models/m"}]} if form.name == "gemini" else {"data": [{"id": "m"}]}
    )
    command = ("doctor", "--provider", form.name, "--base-url", f"{house.url}{form.base}")
    path = {"gemini": "/v1beta/models", "deepseek": "/models", "azure": "/openai/models"}
    asked = {"path": path.get(form.name, "/v1/models")}
    # The second time it comes without the key, to see whether the list is for anybody.
    api.script([{**asked, "n": 1, "status": 200, "body": listed}, {**asked, **form.bad_key.rule}])
    done = house.run(*command, "--model", "m", "--json", environ={form.key: KEY})
    checks = {check["check"]: check for check in done.json["checks"]}
    assert checks["authentication"]["status"] == "ok", checks["authentication"]
    assert checks["model"]["status"] == ("skip" if form.name == "azure" else "ok"), checks["model"]
    (first, *_) = api.requests()
    assert first.method == "GET"
    assert first.auth_in == [form.auth_in]
    api.script([{**asked, **form.bad_key.rule}])
    refused = house.run(*command, "--json", code=4, environ={form.key: KEY})
    checks = {check["check"]: check for check in refused.json["checks"]}
    assert checks["authentication"]["status"] == "fail"
    assert checks["authentication"]["fix"]
    assert KEY not in refused.out


def test_gemini_takes_openais_form_and_its_own(house: House, api: ApiServer) -> None:
    """Native bodies, batch lines with the model in the path, and OpenAI's bodies go each where they belong."""
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    messages = [{"role": "user", "content": "hi"}]
    api.script([{"status": 200, "body": CANDIDATE}])
    house.write(
        "jobs.jsonl",
        [
            {"custom_id": "own", "model": "gemini-x", "contents": contents},
            {"custom_id": "path", "method": "POST", "url": "/v1beta/models/gemini-y:generateContent", "body": {"contents": contents}},
            {"custom_id": "chat", "model": "gemini-x", "messages": messages},
            {"custom_id": "line", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gemini-x", "messages": messages}},
        ],
    )  # fmt: skip
    house.run(
        "submit", "jobs.jsonl", "--base-url", f"{api.url}/v1beta",
        environ={"GEMINI_API_KEY": KEY},
    )  # fmt: skip
    assert sorted((r.path, r.json.get("model")) for r in api.requests()) == [
        ("/v1beta/models/gemini-x:generateContent", None),
        ("/v1beta/models/gemini-y:generateContent", None),
        ("/v1beta/openai/chat/completions", "gemini-x"),
        ("/v1beta/openai/chat/completions", "gemini-x"),
    ]
    lines = house.run("export", "-f", "input").out
    house.run("submit", "-", "--name", "again", "--provider", "gemini", stdin=lines.encode())
    assert len(api.requests()) == 4, "the exported lines are the same jobs"


def test_gemini_at_its_compatible_address(house: House, api: ApiServer) -> None:
    """A base URL that ends in /openai makes prompts chat completions with the key as a bearer."""
    api.script([{"status": 200, "body": chat()}])
    house.jobs(1)
    house.run(
        "submit", "jobs.jsonl", "--provider", "gemini", "--model", "m",
        "--base-url", f"{api.url}/v1beta/openai/", environ={"GEMINI_API_KEY": KEY},
    )  # fmt: skip
    (seen,) = api.requests()
    assert (seen.path, seen.auth_in) == ("/v1beta/openai/chat/completions", ["authorization"])
    assert seen.json["messages"][0]["content"] == "say j0;"
    assert house.csv()[0]["output_text"] == "hello"


def test_azures_version_and_new_address(house: House, api: ApiServer) -> None:
    """--api-version and OPENAI_API_VERSION go into the query; /openai/v1 has the model in the body and no version."""
    api.script([{"status": 200, "body": chat()}])
    house.jobs(1)
    options = ("--provider", "azure", "--model", "dep")
    environ = {"OPENAI_API_VERSION": "2025-02-01", "AZURE_OPENAI_ENDPOINT": api.url}
    house.run("submit", "jobs.jsonl", *options, environ=environ)
    house.run(
        "submit", "jobs.jsonl", *options, "--new", "--api-version", "2026-01-01", environ=environ
    )
    house.run(
        "submit", "jobs.jsonl", *options, "--new", "--base-url", f"{api.url}/openai/v1/"
    )  # fmt: skip
    assert [(r.path, r.query.get("api-version")) for r in api.requests()] == [
        ("/openai/deployments/dep/chat/completions", "2025-02-01"),
        ("/openai/deployments/dep/chat/completions", "2026-01-01"),
        ("/openai/v1/chat/completions", None),
    ]
    assert {r.json["model"] for r in api.requests()} == {"dep"}


def test_groqs_request_headers_are_the_days(house: House, api: ApiServer) -> None:
    """x-ratelimit-limit-requests is learned as requests per day from one answer, never as the minute's."""
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14399",
        "x-ratelimit-reset-requests": "6s",
    }
    api.script([{"status": 200, "headers": headers, "body": chat()}])
    house.jobs(1)
    submit(house, FORMS[1])
    limits = {limit.limit: limit for limit in house.app.limits()}
    assert (limits["rpd"].value, limits["rpd"].source) == (14400, "header")
    assert "rpm" not in limits or limits["rpm"].value is None


REFUSALS: list[tuple[str, Reply, int, str, str]] = [
    ("anthropic", Reply(status=401, body=anthropic("authentication_error", "This API key has expired.")), 4, "authentication", "expired"),
    ("anthropic", Reply(status=401, body=anthropic("authentication_error", "API key is inactive")), 4, "authentication", "switched off"),
    ("anthropic", Reply(status=403, body=anthropic("permission_error", "Your current plan does not include the model sim-1.")), 4, "permission", "plan"),
    ("anthropic", Reply(status=403, body=anthropic("permission_error", "Your key does not have permission to use the specified resource")), 4, "permission", "The key is good"),
    ("anthropic", Reply(status=403, body=anthropic("permission_error", "OAuth authentication is currently not allowed for this organization.")), 4, "authentication", "is not API credit"),
    ("anthropic", Reply(status=400, body=anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")), 4, "credit", "is not API credit"),
    ("anthropic", Reply(status=403, body=anthropic("forbidden", "Request not allowed")), 4, "permission", "not the key"),
    ("openai", Reply(status=403, body=openai("Country, region, or territory not supported", "unsupported_country_region_territory")), 4, "permission", "not the key"),
    ("openai", Reply(status=401, body=openai("Your IP is not authorized", "ip_not_authorized")), 4, "permission", "address this machine connects from"),
    ("openai", Reply(status=404, body=openai("The model `sim-1` has been deprecated, learn more here", "model_not_found")), 4, "model_not_found", "--set model="),
    ("openai", Reply(status=429, body=openai("You exceeded your current quota", "insufficient_quota")), 4, "credit", "ChatGPT"),
    ("anthropic", Reply(status=400, body=anthropic("invalid_request_error", "anthropic-version: 2022-01-01 is not a valid version")), 3, "same_error", "--api-version 2023-06-01"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "reply", "code", "kind", "words"),
    REFUSALS,
    ids=[f"{provider}-{reply.status}-{words}" for provider, reply, _, _, words in REFUSALS],
)
def test_what_stands_between_a_person_and_the_api_is_said(
    house: House, api: ApiServer, provider: str, reply: Reply, code: int, kind: str, words: str
) -> None:
    """One request finds out; no job fails; message and fix say what it is and what helps."""
    api.script([reply.rule])
    house.jobs(3)
    base = api.url if provider == "anthropic" else f"{api.url}/v1"
    done = house.run(
        "submit", "jobs.jsonl", "--provider", provider, "--model", "sim-1", "--base-url", base,
        "--json", code=code,
    )  # fmt: skip
    assert len([r for r in api.requests() if r.method == "POST"]) == 1
    assert done.error["kind"] == kind
    told = f"{done.error['message']} {done.error['fix']}"
    assert words in told, told
    assert house.counts().pending == 3


def test_a_field_that_a_version_removed_is_explained(house: House, api: ApiServer) -> None:
    """The job fails with its kind, and `errors` and the export say which option helps."""
    body = anthropic("invalid_request_error", "temperature: Extra inputs are not permitted")
    api.script([{"contains": "j0", "status": 400, "body": body}])
    house.jobs(2)
    house.submit("--api-version", "2026-10-21", code=1)
    row = house.csv()[0]
    assert row["error_kind"] == "invalid_request"
    (group,) = house.app.errors()
    assert "--api-version 2023-06-01" in group.fix
    assert "2026-10-21" in row["error_message"]
    assert api.requests()[0].headers["anthropic-version"] == "2026-10-21"
    house.run("retry", "--api-version", "2023-06-01", code=1)
    assert api.requests()[-1].headers["anthropic-version"] == "2023-06-01"


def test_a_model_that_is_being_loaded_is_waited_for(house: House, api: ApiServer) -> None:
    """A 503 while a model loads is overloaded: an outage, which charges nobody."""
    loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    api.script([{"n": 1, "status": 503, "body": loading}])
    house.jobs(1)
    done = house.submit()
    assert [r.status for r in api.requests()] == [503, 200]
    assert house.csv()[0]["attempts"] == "1"
    assert done.named("job.completed")


def test_a_model_that_the_key_may_not_use_holds_its_own_jobs_alone(
    house: House, api: ApiServer
) -> None:
    """The others are answered; then the run halts with permission, names the model, and another model mends it."""
    refused = openai("Project `p` does not have access to model `dear`", "model_not_found")
    api.script([{"contains": "dear-", "status": 403, "body": refused}])
    house.write(
        "jobs.jsonl",
        [
            {"id": f"{name}{n}", "prompt": f"{name}-{n}", "model": name}
            for n in range(3)
            for name in ("plain", "dear")
        ],
    )
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "openai", "--base-url", f"{api.url}/v1", "--json",
        code=4,
    )  # fmt: skip
    assert done.error["kind"] == "permission"
    assert "`dear`" in done.error["message"]
    counts = house.counts()
    assert (counts.completed, counts.pending, counts.failed) == (3, 3, 0)
    assert len([r for r in api.requests() if r.method == "POST" and r.status == 403]) < 3
    house.resume("--set", "model=plain", code=4)
    api.script([])
    house.resume("--set", "model=plain")
    assert house.counts().completed == 6


def test_a_line_of_geminis_batch_files_is_refused_with_the_command_that_turns_it(
    house: House, api: ApiServer
) -> None:
    """Nothing is stored, whether or not a provider is named; the lines that the command makes are taken."""
    request = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    file = house.write("theirs.jsonl", [{"key": f"k{i}", "request": request} for i in range(2)])
    to_gemini = ("--provider", "gemini", "--model", "gemini-x", "--base-url", api.url, "--no-run")
    for options in (to_gemini, ()):
        done = house.run("submit", file.name, *options, code=2)
        assert "jq -c '{custom_id: .key} + .request' FILE" in done.err, options
    house.write("ours.jsonl", [{"custom_id": f"k{i}", **request} for i in range(2)])
    house.run("submit", "ours.jsonl", *to_gemini)
    assert set(house.rows()) == {"k0", "k1"}

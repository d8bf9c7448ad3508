"""Whether two processes would send a run alike: by their keys, addresses, proxies and trust."""

from __future__ import annotations

from typing import Any

import pytest

from batchrunner.errors import RefusedError
from batchrunner.sameness import check_same_way
from batchrunner.wiring import Wiring

KEY = "sk-ant-api03-" + "a" * 95
OTHER = "sk-ant-api03-" + "b" * 95
AT_HOME = {"ANTHROPIC_API_KEY": KEY}


def way(environ: dict[str, str], **options: Any) -> dict[str, str]:
    """How a process with that environment goes to Anthropic."""
    return dict(Wiring(environ, lambda _text: None).way("anthropic", options))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ANTHROPIC_API_KEY": OTHER}, "has another key"),
        ({"ANTHROPIC_BASE_URL": "https://gateway.example"}, "sends to another address"),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "goes by another proxy"),
        ({"NO_PROXY": "*", "HTTPS_PROXY": "http://proxy.example:3128"}, ""),
        ({"http_proxy": "http://proxy.example:3128"}, ""),
        ({"OPENAI_API_KEY": OTHER}, ""),
        ({"TEAM": "red"}, "or other headers"),
        ({"ANTHROPIC_BASE_URL": "nowhere"}, "sends to another address"),
    ],
    ids=str,
)
def test_what_of_an_environment_makes_another_way(changed: dict[str, str], says: str) -> None:
    """Whatever changes what is sent, or where, is another way; whatever does not is none."""
    options = {"headers": ["X-Team: ${TEAM}"]}
    own = way({**AT_HOME, "TEAM": "blue"}, **options)
    asked = way({**AT_HOME, "TEAM": "blue", **changed}, **options)
    if not says:
        check_same_way(asked, own)
        return
    with pytest.raises(RefusedError, match=says):
        check_same_way(asked, own)


def test_who_has_no_key_takes_any() -> None:
    """Without a key where one is needed, the key of the process that sends will do."""
    check_same_way(way({}), way(AT_HOME))
    with pytest.raises(RefusedError, match="another address"):
        check_same_way(way({"ANTHROPIC_BASE_URL": "https://gateway.example"}), way(AT_HOME))


def test_a_way_shows_no_secret() -> None:
    """Neither the key nor a proxy's login is in what another process reads."""
    environ = {**AT_HOME, "HTTPS_PROXY": "http://joe:pass-w0rd@proxy.example:3128"}
    shown = str(way(environ))
    assert all(text not in shown for text in (KEY, "joe", "pass-w0rd"))
    assert all(len(value) <= 16 for value in way(environ).values())

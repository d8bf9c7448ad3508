"""Configuration files, proxies, key files and keyrings of anybody: taken, or refused in a sentence."""

from __future__ import annotations

import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from batchrunner.config import load_config
from batchrunner.config.keys import KEYS
from batchrunner.config.show import values_in_force
from batchrunner.core.credentials import Credential
from batchrunner.errors import InputError, RefusedError, UsageError
from batchrunner.providers import keyring, profile
from batchrunner.providers.credentials import find_credential
from batchrunner.transport.proxies import (
    Proxy,
    UnusableProxyError,
    environment_proxy,
    is_exempt,
    read_proxies,
    without_password,
)
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import bytes_like, repeated, texts

VALUES: Final = (
    "1", "-1", "0", "1e400", "nan", "inf", "true", '"90s"', '"9999999999999d"', '"x"', "''", '"\\u0000"', '"a\\u0000b"',
    '"../../x"', "[]", "[1]", '["a", "b"]', "{}", '{ a = "b" }', '{ "x-y" = "${HOME}" }', "1979-05-27", '"http://a:b@c"',
    '"https://host/v1"', '"socks5h://127.0.0.1:1"', '"none"', '"auto"', '"America/New_York"', '"@/dev/null"', "9" * 400,
    '"""\n\n"""', '"sk-ant-api03-' + "A" * 90 + '"', '"\\u001b[31m"',
)  # fmt: skip
TABLES: Final = (
    "[profiles.x]", "[profiles]", '[prices."m"]', "[providers.p]", "[[providers.p.rules]]", "[providers.p.headers]", "[x]", "[budget]",
    '["\\u001b[2J"]', "[providers.anthropic]", "[prices]",
)  # fmt: skip
INNER: Final = (
    *KEYS, "day", "month", "input", "output", "cache_read", "kind", "base_url", "key_env", "models_path", "rules", "status", "statuses",
    "codes", "match", "message", "language", "speaks", '"x y"', '"\\u001b"', "unknown",
)  # fmt: skip
STATEMENTS: Final = st.one_of(
    st.builds(lambda key, value: f"{key} = {value}", st.sampled_from(INNER), st.sampled_from(VALUES)),
    st.sampled_from(TABLES),
    texts("=", "[", "]", '"', "'", "#", max_size=4),
)  # fmt: skip
DOCUMENTS: Final = st.one_of(
    st.lists(STATEMENTS, max_size=8).map(lambda lines: "\n".join(lines).encode()),
    bytes_like(b'rpm = 50\nmodel = "m"\n[profiles.x]\nheaders = { "a" = "b" }\n[prices."m"]\ninput = 1.5\n'),
    repeated("[", "a.", "a = [", '"', "[[a]]\n", "a = {", "\n").map(str.encode),
)  # fmt: skip


@fuzzed(200)
@given(DOCUMENTS)
@example(b'key_file = "a\\u0000b"')
@example(b'ca_file = "a\\u0000b"')
@example(b'system = "@a\\u0000b"')
@example(b"max_response = " + b"9" * 400)
@example(b"a = " + b"[" * 5_000)
@example(b"timeout = 1e300")
@example(b"\n\nrpm = " + b"9" * 5_000)
@example(b'provider = "sk-ant-api03-' + b"A" * 90 + b'"')
@example(b"priority = 99999999999999999999999")
def test_a_configuration_is_taken_or_refused_by_line(data: bytes) -> None:
    """A file of any bytes is a configuration that can be shown, or faults with lines of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batchrunner.toml")
        path.write_bytes(data)
        try:
            with within(3.0):
                config = load_config(file=path, environ={}, user=Path(folder, "none"))
        except InputError as refused:
            lines = data.count(b"\n") + data.count(b"\r") + 1
            assert refused.faults
            assert all(1 <= fault.line <= max(lines, 1) for fault in refused.faults)
            assert "sk-ant-api03" not in str([fault.reason for fault in refused.faults])
            return
        except UsageError as refused:
            assert refused.fix
            return
        for row in values_in_force(config, {}, typed={}):
            assert row.key in KEYS


URLS: Final = texts(
    "http://", "https://", "socks5://", "socks5h://", "socks4a://", "socks://", "ftp://", "user", ":", "secretpw", "@",
    "proxy.example", "127.0.0.1", "[::1]", ":8080", ":0", ":99999", "/", "/path", "?q", "#f", "${PW}", "%40", " ",
)  # fmt: skip


@fuzzed(200)
@given(URLS, URLS, texts("*", ".example", "127.0.0.0/8", ",", ":80", "[::1]", " "))
@example("http://a:b@c:d@e", "http://[", "")
@example("http://u:${PW}@h:1", "http://u:***@h:1", "*")
@example("", "user:secretpw@://h", "")
def test_a_proxy_is_an_address_or_refused_without_its_password(
    first: str, second: str, exempt: str
) -> None:
    """Whatever a proxy is said to be, it is one that can be asked or an error that hides the login."""
    environ = {"https_proxy": first, "ALL_PROXY": second, "no_proxy": exempt, "PW": "secretpw"}
    for read in (
        lambda: read_proxies([first], environ, typed=[second]),
        lambda: (environment_proxy(URL("https://api.example/x"), environ),),
    ):
        try:
            with within():
                found: Any = read()
        except UnusableProxyError as refused:
            if "secretpw@" in f"{first}{second}".replace("${PW}", ""):
                assert "secretpw" not in f"{refused} {refused.fix}".replace(exempt, "")
            continue
        for proxy in found:
            assert proxy is None or isinstance(proxy, Proxy)
            if proxy is not None:
                assert 0 < (proxy.url.port or 0) < 65_536
                assert proxy.url.host
                assert not proxy.password or proxy.password not in repr(proxy)
    with within():
        is_exempt(URL("http://127.0.0.1:80"), environ)
        stored = without_password(first)
    assert without_password(stored) == stored


KEY: Final = b"sk-ant-api03-" + b"A" * 93 + b"AA"


@fuzzed(120)
@given(
    bytes_like(KEY, KEY + b"\n", b"\xef\xbb\xbf" + KEY, b"export A='" + KEY + b"'"), st.booleans()
)
@example(KEY + b"\x00", True)
@example(b"\xff" * 40, False)
@example(b"a" * 20_000, False)
def test_a_key_file_is_a_key_or_refused_without_it(data: bytes, is_own: bool) -> None:
    """A key file of any content gives what a header can carry, or a sentence without the content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(data)
        path.chmod(stat.S_IRUSR)
        try:
            with within():
                found = find_credential(
                    profile("anthropic"),
                    {"ANTHROPIC_API_KEY_FILE": str(path)},
                    base_url_is_own=is_own,
                )
        except RefusedError as refused:
            text = f"{refused.message} {refused.fix}"
            assert "A" * 20 not in text
            return
    if found is not None:
        assert found.value == found.value.strip()
        assert found.value.isascii()
        assert found.value.isprintable()


ANSWERS: Final = st.one_of(
    st.none(), texts(), st.binary(), st.integers(), st.lists(texts()), st.just(KEY.decode()),
    st.just(KEY), st.just(object()),
)  # fmt: skip
RAISED: Final = st.sampled_from(
    [OSError(5, "x"), ValueError("\x1b[2J"), RuntimeError(), KeyError("k"), SystemExit(3)]
)


@fuzzed(60)
@given(st.one_of(ANSWERS, RAISED))
@example(KEY)
@example(17)
@example(SystemExit(3))
def test_a_keyring_answers_anything(answer: object) -> None:
    """What a keyring's backend gives or raises is a key, or a reason why there is none."""

    def get_password(service: str, provider: str) -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    fake = ModuleType("keyring")
    fake.get_password = get_password  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"keyring": fake}):
        looked = keyring.look("anthropic")
        assert looked.value is None or isinstance(looked.value, str)
        assert looked.value or looked.why
        try:
            found = find_credential(profile("anthropic"), {}, base_url_is_own=True)
        except RefusedError as refused:
            assert refused.fix
            return
    assert isinstance(found, Credential)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5_000], ids=["zero", "surrogate", "long"])
def test_a_key_file_that_is_no_path_is_refused(name: str) -> None:
    """A configured key file whose name no file can have is told as one that can't be read."""
    with pytest.raises(RefusedError) as raised:
        find_credential(profile("anthropic"), {}, base_url_is_own=True, key_file=Path(name))
    assert "can't be read" in raised.value.message

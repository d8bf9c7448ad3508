"""Base URLs that can't be right are refused, and what they hold is not shown."""

from __future__ import annotations

import pytest

from batchrunner.checking import check_base_url
from batchrunner.errors import UsageError

SECRET = "S3cretPassw0rd"


@pytest.mark.parametrize(
    "url",
    [
        f"https://joe:{SECRET}@host/v1",
        f"htps://joe:{SECRET}@host/v1",
        f"//joe:{SECRET}@host/v1",
        f"joe:{SECRET}@host/v1",
        f"{SECRET}@host",
        f"https://host:port/?api_key={SECRET}",
        f"host?key={SECRET}",
    ],
)
def test_a_secret_in_an_address_is_refused_unshown(url: str) -> None:
    """Whether or not it is an address, its login and its keys are in no message."""
    with pytest.raises(UsageError) as refused:
        check_base_url(url)
    assert SECRET not in f"{refused.value.message} {refused.value.fix}"


@pytest.mark.parametrize("url", ["api.example", "ftp://host", "https://", "https://h:x", ""])
def test_what_is_no_address_is_shown(url: str) -> None:
    """A person sees what was typed."""
    with pytest.raises(UsageError, match="is not one") as refused:
        check_base_url(url)
    assert repr(url) in refused.value.message

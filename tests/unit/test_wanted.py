"""Which runs are for a worker: providers, tags, accounts, told in words where they are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from batchrunner.cli import main
from batchrunner.engine.offers import Offers, Wanted
from batchrunner.engine.working import known_again
from batchrunner.errors import UsageError
from batchrunner.models import RunId
from batchrunner.options import ACCOUNT_KEY
from batchrunner.sameness import check_account
from batchrunner.values import read_tags

EU = frozenset({"eu", "big"})


@pytest.mark.parametrize(
    ("wanted", "tags", "why"),
    [
        (Wanted(), (), None),
        (Wanted(), ("eu",), "it wants the tag eu,"),
        (Wanted(tags=EU), (), None),
        (Wanted(tags=EU), ("eu",), None),
        (Wanted(tags=EU), ("big", "eu"), None),
        (Wanted(tags=EU), ("us", "eu", "gpu"), "it wants the tags gpu, us,"),
        (Wanted(tags=EU, only_tagged=True), (), "it has no tag,"),
        (Wanted(tags=EU, only_tagged=True), ("eu",), None),
        (Wanted(provider="openai"), (), "it is a run of anthropic,"),
        (Wanted(provider="anthropic"), (), None),
    ],
)
def test_a_worker_takes_what_asks_for_nothing_that_it_lacks(
    wanted: Wanted, tags: tuple[str, ...], why: str | None
) -> None:
    """All tags of a run have to be the worker's; a run without any is for all, unless told otherwise."""
    found = wanted.why_not("anthropic", tags)
    assert (found is None) == (why is None)
    assert why is None or (found or "").startswith(why)


@pytest.mark.parametrize(
    ("options", "accounts", "is_ours"),
    [
        ({}, (), True),
        ({"account": "a"}, (), False),
        ({"account": "a"}, ("a",), True),
        ({"account": "a", ACCOUNT_KEY: ["a", "mine"]}, (), True),
        ({"account": "a", ACCOUNT_KEY: ["a", "theirs"]}, ("b",), False),
        # The account was changed where no key was.
        ({"account": "b", ACCOUNT_KEY: ["a", "mine"]}, (), False),
    ],
)
def test_a_named_account_wants_a_key_that_is_known_to_be_its_own(
    options: dict[str, object], accounts: tuple[str, ...], is_ours: bool
) -> None:
    """The key of the submit, or a word of the worker's; a run that names none goes by any key."""
    if is_ours:
        check_account(options, "mine", accounts)
        return
    with pytest.raises(UsageError, match=r"worker --account \w"):
        check_account(options, "mine", accounts)


@pytest.mark.parametrize("text", ["", "eu,", "a b", "eu,,big", "-x", "ä", "x" * 64])
def test_what_is_no_tag_is_refused(text: str) -> None:
    """Tags are short words without blanks or commas."""
    with pytest.raises(ValueError, match="is no tag"):
        read_tags(text)


def test_tags_are_read_once_each() -> None:
    """Blanks around a comma are dropped, and so is what was said before."""
    assert read_tags("eu, big,eu") == ("eu", "big")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["submit", "jobs.jsonl", "--tags", "a b"], "is no tag"),
        (["submit", "jobs.jsonl", "--tags", "eu,none"], "stands alone"),
        (["worker", "--tags", ""], "is no tag"),
    ],
)
def test_tags_that_are_none_are_a_wrong_usage(
    given: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be told apart by commas, or says two things, is refused before anything is opened."""
    assert main(given) == 2
    assert why in capsys.readouterr().err


def test_why_a_run_is_left_is_said_again_once_it_was_forgotten() -> None:
    """A worker that others took for dead, and that comes back, stands in status as it did before."""
    offers = Offers(defaults_of=lambda _provider: {}, until_done=False)
    run, why = RunId(1), "it wants the tag eu"
    assert offers.is_news(run, why)
    assert not offers.is_news(run, why)
    process = cast("Any", SimpleNamespace(id=7, lock=SimpleNamespace(name="9")))
    for n_inserted in (0, 1):
        # Its row, where it is no more there.
        inserted = SimpleNamespace(rowcount=n_inserted)
        conn = SimpleNamespace(execute=lambda *_words, found=inserted: found)
        known_again(cast("Any", conn), process=process, offers=offers)
        assert offers.is_news(run, why) is bool(n_inserted)

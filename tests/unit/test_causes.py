"""Failures are alike where their messages differ only in what is each job's own."""

from __future__ import annotations

import pytest

from batchrunner.core.causes import cause_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", "prompt is too long: 200001 tokens > 200000 maximum"),
        ("messages.0.content: field required", "messages.12.content: field required"),
        ("The model `gpt-5` does not exist", "The model `gpt-4o-mini` does not exist"),
        ('unknown field "temperatur"', 'unknown field "max_token"'),
        ("error in req_011CSHoEeqs5C35K", "error in req_9zz"),
        ("see https://host/a for help", "see https://host/b?c for help"),
        ("at '2026-11-23'", "at '2026-11-24'"),
    ],
)  # fmt: skip
def test_what_differs_from_job_to_job_does_not_tell_causes_apart(one: str, other: str) -> None:
    """Numbers, ids, addresses and quoted words are each job's own."""
    assert cause_of(one) == cause_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("messages: field required", "max_tokens: field required"),
        ("overloaded", "Internal server error"),
        ("it can't be read", "it can't be written, isn't it"),
        ("", "no reason given"),
    ],
)
def test_other_words_are_another_cause(one: str, other: str) -> None:
    """Apostrophes are no quotation marks."""
    assert cause_of(one) != cause_of(other)

"""The key: its form, and the other header in which a gateway may want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from batchrunner.checkup.sheet import Sheet
from batchrunner.core.credentials import Credential
from batchrunner.providers import Profile
from batchrunner.views import CheckStatus

__all__ = ["OtherForm", "other_form", "put_key"]


class OtherForm(NamedTuple):
    """Another header that carries the key, and how it is asked for."""

    #: As a message names it.
    usual: str
    other: str
    headers: Mapping[str, str]
    #: Another variable to put it into, if there is one.
    fix: str
    #: What a command is given for it.
    option: str

    def mend(self, command: str) -> str:
        """Return what to do, with the command that is to take the option."""
        return f"{self.fix}{', or add' if self.fix else 'Add'} the header: {command} {self.option}"


def put_key(
    sheet: Sheet,
    known: Profile,
    credential: Credential | None,
    notices: Sequence[str],
    *,
    host: str,
    is_own: bool,
) -> None:
    """Write down where the key is from; what is wrong with its form was raised already."""
    if credential is None:
        detail = f"none is set; {host} is asked without one"
        sheet.put("key", CheckStatus.OK, detail if known.key_envs else f"{known.title} needs none")
        return
    form = "well-formed" if is_own else "a gateway may take any form"
    detail = f"{credential.source}: {len(credential.value)} characters, {form}"
    if notices:
        sheet.put(
            "key",
            CheckStatus.WARN,
            f"{detail}. {' '.join(notices)}".rstrip("."),
            fix="It is used like that; set it anew to be rid of this line.",
        )
        return
    sheet.put("key", CheckStatus.OK, detail)


def other_form(
    known: Profile, credential: Credential, headers: Mapping[str, str]
) -> OtherForm | None:
    """Return the header that ``headers`` does not carry the key in; ``None``: it is neither's."""
    variable = credential.source if credential.source.isidentifier() else "VARIABLE"
    variable = variable.removesuffix("_FILE")
    if headers.get("x-api-key") == credential.value:
        option = f"-H 'Authorization: Bearer ${{{variable}}}'"
        fix = ""
        if "ANTHROPIC_AUTH_TOKEN" in known.key_envs:
            token = credential.source.replace("API_KEY", "AUTH_TOKEN")
            token = token if token.startswith("ANTHROPIC_") else "ANTHROPIC_AUTH_TOKEN"
            fix = f"Set {token} instead of {credential.source}"
        return OtherForm(
            "x-api-key",
            "Authorization: Bearer",
            {"authorization": f"Bearer {credential.value}"},
            fix,
            option,
        )
    if headers.get("authorization") == f"Bearer {credential.value}":
        option = f"-H 'x-api-key: ${{{variable}}}'"
        fix = ""
        if "ANTHROPIC_API_KEY" in known.key_envs:
            key = credential.source.replace("AUTH_TOKEN", "API_KEY")
            key = key if key.startswith("ANTHROPIC_") else "ANTHROPIC_API_KEY"
            fix = f"Set {key} instead of {credential.source}"
        return OtherForm(
            "Authorization: Bearer", "x-api-key", {"x-api-key": credential.value}, fix, option
        )
    return None

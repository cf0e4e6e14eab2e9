"""Descriptions of the blocks to save: class, variables, required values."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from prefect.types import SecretDict

from prefect_tracktor import HttpChannel, Mailer, Mode, TracktorCredentials
from prefect_tracktor.setup.environment import Environment, listed
from prefect_tracktor.validation import whole_path

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A block to save, and the variables that its values come from.

    Attributes:
        block: The block's class, with a method `verify` that raises an error if it does not work.
        fields: The variable of each field; `limits.max_attempts` is a field of the field `limits`.
        required: The variables that must be set, each with where to find its value.
        identity: The field that identifies the account or server, such as the account's uuid. With
            another one, no value of the previous account or server stays, except those in `kept`
            and other blocks.
        kept: The fields that also stay with another account or server.
        others: The fields that hold another block of the same name.
        adapt: Converts the given values to those that the block takes.
        remark: Returns a remark to print when the block is saved.
        instead: The block that makes this one unnecessary.
        optional: Whether only some flows need it.
    """

    block: type[Block]
    fields: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    kept: Collection[str] = ()
    others: Mapping[str, type[Block]] = field(default_factory=dict)
    adapt: Callable[[Values], Values] = dict
    remark: Callable[[Any], str] = lambda _block: ""
    instead: type[Block] | None = None
    optional: bool = False

    @property
    def slug(self) -> str:
        """The slug of the block's type."""
        return self.block.get_block_type_slug()

    def identity_of(self, block: Block) -> Any:
        """Return the value that identifies the account or server of a block, if it has one."""
        return getattr(block, self.identity) if self.identity else None

    def values(self, environment: Environment) -> Values:
        """Return the values of the fields whose variable is set, as text."""
        values: Values = {}
        for path, variable in self.fields.items():
            if given := environment.get(variable, ""):
                *outer, name = path.split(".")
                target = values.setdefault(outer[0], {}) if outer else values
                target[name] = given
        return self.adapt(values)

    def missing(self, environment: Environment) -> dict[str, str]:
        """Return the required variables that are not set, each with where to find its value."""
        return {name: hint for name, hint in self.required.items() if not environment.get(name)}


def mode_remark(block: Mailer | HttpChannel) -> str:
    """Say whether a mailer or a channel sends, and how to change that."""
    is_mailer = isinstance(block, Mailer)
    what, whom = ("email", "customers") if is_mailer else ("notice", "the service")
    address = f"TRACKTOR_{'' if is_mailer else 'CHANNEL_'}REHEARSAL_ADDRESS"
    if block.mode == Mode.LIVE:
        return f"live: {what}s go to {whom}. To stop them, set TRACKTOR_MODE to dry run"
    if block.mode == Mode.REHEARSAL:
        return f"rehearsal: all {what}s go to the rehearsal address, none to {whom}"
    return (
        f"dry run: no {what} is sent. When the tables of a run are right, set"
        f" TRACKTOR_MODE=rehearsal and {address}, and run this again: you get all {what}s, and"
        f" {whom} none. Then TRACKTOR_MODE=live. Or choose the Mode in Prefect's UI (Blocks, this"
        " block, Edit)"
    )


def read_only_remark(credentials: TracktorCredentials) -> str:
    """Say whether an account is read only, and how to change that."""
    if not credentials.read_only:
        return ""
    return (
        "read only: nothing is changed in Tracktor, no event is emitted. When the plans are right,"
        " set TRACKTOR_READ_ONLY=false and run this again, or turn Read only off in Prefect's UI"
    )


def path_of_a_file_here(values: Values) -> Values:
    """Make the path of a file that is here whole; one of another machine stays as it is."""
    whole = whole_path(values.get("path", ""))
    return values | {"path": whole} if Path(whole).is_file() else values


def split_topics(values: Values) -> Values:
    """Split a webhook's topics, which a variable holds separated by commas."""
    return values | {"topics": listed(values["topics"])} if "topics" in values else values


def parse_channel(values: Values) -> Values:
    """Parse a channel's headers (JSON) and statuses (a list); `none` means no header."""
    parsed = dict(values)
    if "headers" in values:
        try:
            parsed["headers"] = SecretDict(json.loads(values["headers"]))
        except ValueError:
            example = '{"Authorization": "…"}'
            raise ValueError(f"headers must be a JSON object, such as {example}") from None
    if "success_statuses" in values:
        parsed["success_statuses"] = listed(values["success_statuses"])
    if values.get("idempotency_header", "").lower() == "none":
        parsed["idempotency_header"] = ""
    return parsed


def one_shopify_login(values: Values) -> Values:
    """Clear the fields of the login that is not given: client id and secret, or access token."""
    if "client_id" in values:
        return {"access_token": ""} | values
    if "access_token" in values:
        return {"client_id": "", "client_secret": ""} | values
    return values

"""A block document: its block, the variables that its fields come from, how to verify it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.blocks.core import Block

from prefect_tracktor.setup.environment import Environment

Values = dict[str, Any]


def _unchanged(values: Values) -> Values:
    return values


def _own_verify(block: Any) -> None:
    block.verify()


@dataclass(frozen=True, slots=True)
class Document:
    """One block document and where its values come from.

    Attributes:
        block: The block's class.
        fields: The variable of each field; `limits.max_attempts` is a field of the field `limits`.
        required: The variables without which it cannot be made, each with where to get it.
        identity: The field that says whose it is, such as the account's uuid.
        others: The fields that hold another document of the same name.
        adapt: Brings the given values into the form that the block takes.
        verify: Sees whether a block works; raises an error if not.
        instead: The block that makes this one needless where it has a document.
        optional: Whether only some flows need it.
    """

    block: type[Block]
    fields: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    others: Mapping[str, type[Block]] = field(default_factory=dict)
    adapt: Callable[[Values], Values] = _unchanged
    verify: Callable[[Any], None] = _own_verify
    instead: type[Block] | None = None
    optional: bool = False

    @property
    def slug(self) -> str:
        """The slug of the block's type, by which documents are loaded."""
        return self.block.get_block_type_slug()

    def values(self, environment: Environment) -> Values:
        """The fields whose variable is set, as text; the others are to stay as they are."""
        values: Values = {}
        for path, variable in self.fields.items():
            if given := environment.get(variable, ""):
                *part, name = path.split(".")
                holder = values.setdefault(part[0], {}) if part else values
                holder[name] = given
        return self.adapt(values)

    def missing(self, environment: Environment) -> dict[str, str]:
        """The required variables that are not set, with where to get each."""
        return {name: hint for name, hint in self.required.items() if not environment.get(name)}


def split_topics(values: Values) -> Values:
    """Make a list of the topics of a webhook, which a variable holds with commas between."""
    if "topics" not in values:
        return values
    topics = [topic.strip() for topic in values["topics"].split(",")]
    return values | {"topics": [topic for topic in topics if topic]}


def one_shopify_login(values: Values) -> Values:
    """Clear the fields of the other login: client id and secret, or an access token."""
    if "client_id" in values:
        return {"access_token": ""} | values
    if "access_token" in values:
        return {"client_id": "", "client_secret": ""} | values
    return values

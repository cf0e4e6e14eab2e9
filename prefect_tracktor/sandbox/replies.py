"""What the sandbox answers with, whichever service it plays."""

from typing import Any, NamedTuple

from pydantic_core import to_json


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, errors: Any) -> None:
        super().__init__(status)
        self.reply = Reply(status, to_json({"errors": errors}))

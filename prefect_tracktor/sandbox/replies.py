"""What the sandbox answers with, whichever service it plays."""

from typing import Any

from aiohttp import web
from pydantic_core import to_json


def reply(value: Any, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=to_json(value), content_type="application/json")


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, errors: Any) -> None:
        super().__init__(status)
        self.response = reply({"errors": errors}, status)

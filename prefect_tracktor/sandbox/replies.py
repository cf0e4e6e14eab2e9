"""HTTP responses of the sandbox's services."""

from typing import Any

from aiohttp import web
from pydantic_core import to_json


def reply(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=to_json(value), content_type="application/json")


class Refusal(Exception):
    """A refused request, with the response that says why."""

    def __init__(self, status: int, errors: Any) -> None:
        super().__init__(status)
        self.response = reply({"errors": errors}, status)

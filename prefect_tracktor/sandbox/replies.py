"""Refused requests to the sandbox's services."""

from typing import Any

from aiohttp import web


class Refusal(Exception):
    """A refused request, with the response that says why."""

    def __init__(self, status: int, errors: Any) -> None:
        super().__init__(status)
        self.response = web.json_response({"errors": errors}, status=status)

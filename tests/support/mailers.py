"""Mailers for the sandbox's mail server, and changed parameters of flows."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from prefect_tracktor import Mailer, ReadingOptions
from prefect_tracktor.sandbox import MailServer

SENDER = "Sandbox Shop <orders@sandbox-shop.example>"


def mailer_of(server: MailServer, **options: Any) -> Mailer:
    """Return a live mailer for the server."""
    return mailer_at(server.port, **options)


def mailer_at(port: int, **options: Any) -> Mailer:
    """Return a live mailer for a port on this machine."""
    usual = {"host": "127.0.0.1", "port": port, "security": "none", "sender": SENDER}
    return Mailer.model_validate(usual | {"mode": "live"} | options)


def changed(parameters: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Return parameters of a flow with other values, also for fields of `mailer` and `reading`."""
    for name, default in {"mailer": None, "reading": ReadingOptions()}.items():
        part: BaseModel | None = parameters.get(name, default)
        if part is not None and (own := type(part).model_fields.keys() & options.keys()):
            values = dict(part) | {field: options.pop(field) for field in own}
            options[name] = type(part).model_validate(values)
    return {**parameters, **options}

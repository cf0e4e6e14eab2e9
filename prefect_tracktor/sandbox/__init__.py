"""Sandbox for demos, rehearsals and tests: Tracktor, Shopify and a mail server on loopback.

`prefect-tracktor sandbox` starts it and prints the credentials to use.
"""

try:
    import aiohttp as _aiohttp  # noqa: F401  # imported here to say what to install
    import aiosmtpd as _aiosmtpd  # noqa: F401  # ditto
except ImportError as missing:
    raise ImportError(
        f"the sandbox needs {missing.name}: pip install aiohttp aiosmtpd",
        name=missing.name,
    ) from missing

from prefect_tracktor.sandbox.deliveries import Delivery
from prefect_tracktor.sandbox.faults import Fault, Faults
from prefect_tracktor.sandbox.mail import MailFaults, MailServer, ReceivedMessage
from prefect_tracktor.sandbox.movement import Movement, MovementStep, Moving
from prefect_tracktor.sandbox.process import RunningSandbox, sandbox_process
from prefect_tracktor.sandbox.response_format import ResponseFormat
from prefect_tracktor.sandbox.server import API_KEY, UUID, Sandbox
from prefect_tracktor.sandbox.shop import Arrival, RefusedValue, Shop, StatusChange, UnknownId
from prefect_tracktor.sandbox.shopify import Shopify, ShopifyRules

__all__ = [
    "API_KEY",
    "UUID",
    "Arrival",
    "Delivery",
    "Fault",
    "Faults",
    "MailFaults",
    "MailServer",
    "Movement",
    "MovementStep",
    "Moving",
    "ReceivedMessage",
    "RefusedValue",
    "ResponseFormat",
    "RunningSandbox",
    "Sandbox",
    "Shop",
    "Shopify",
    "ShopifyRules",
    "StatusChange",
    "UnknownId",
    "sandbox_process",
]

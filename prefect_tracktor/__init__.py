"""Prefect blocks, tasks and ready-made flows for Tracktor, the order tracking of Shopify stores."""

from importlib.metadata import version

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.client import AsyncTracktorClient, TracktorClient
from prefect_tracktor.conditions import Condition, conditions_of, most_urgent
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    APIConnectionError,
    AuthenticationError,
    BatchFailed,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    LimitExceeded,
    NotFound,
    RateLimited,
    ReadOnlyAccount,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.http.transport import TransportLimits
    "Words",

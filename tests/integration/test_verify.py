"""Blocks see for themselves whether they work, soon and without leaving a trace."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url

from prefect_tracktor import (
    APIConnectionError,
    CompletedOrders,
    EmailTemplate,
    InvalidInput,
    NotificationLedger,
    OrderFile,
    ServerError,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
)
from prefect_tracktor.errors import DatabaseError, MailServerError, TemplateError

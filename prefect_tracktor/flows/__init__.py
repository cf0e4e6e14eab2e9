"""The ready-made flows, one file each."""

from prefect_tracktor.flows.expired_exceptions import (
    ExpiredExceptionsReport,
    email_expired_exceptions,
)

__all__ = ["ExpiredExceptionsReport", "email_expired_exceptions"]

"""Errors that replace others keep secrets out of messages and tracebacks."""

import traceback

import pytest

from prefect_tracktor.errors import InvalidInput, LedgerInUse, NotSent, replaced_errors


def test_a_replaced_error_appears_in_no_traceback() -> None:
    secret = "geheim".upper()
    with (
        pytest.raises(InvalidInput, match="cannot be read") as caught,
        replaced_errors(OSError, lambda _: InvalidInput("cannot be read")),
    ):
        raise OSError(f"s3://key:{secret}@bucket")
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def _fail(error: Exception) -> Exception:
    raise AssertionError(error)


def test_replaced_errors_lets_our_own_and_other_errors_pass() -> None:
    for passing in (LedgerInUse("a run is at work"), OSError("other")):
        with pytest.raises(type(passing)), replaced_errors((LookupError, NotSent), _fail):
            raise passing

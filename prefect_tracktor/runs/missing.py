"""Check for suspiciously many order ids that Tracktor does not know."""

from hashlib import sha256

import httpx
from prefect import get_run_logger
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.variables import Variable

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import AuthenticationError, NotFound, TracktorError
from prefect_tracktor.reporting.deployment import deployment_name

_MANY = 5
_REASONS = {
    True: "the account exists, so the ids are probably another shop's (look at the export), or the"
    " uuid is another account's",
    False: "it does not know the account either: check base_url and uuid of the credentials",
    None: "base_url or uuid of the credentials may be wrong, or the ids another shop's",
}


def suspicion_about(
    credentials: TracktorCredentials, *, found: int, missing: int, dry_run: bool
) -> tuple[str, int]:
    """Return what is suspicious about a run's order ids, and the number of calls it took."""
    if missing and not found:
        known, reason, calls = _why_none(credentials)
        is_suspicious = missing >= _MANY or known is False
        return (
            f"Tracktor knows none of the {missing} orders: {reason}" if is_suspicious else "",
            calls,
        )
    if found + missing < _MANY:
        return "", 0
    if _is_new(_variable(credentials), most=missing > found, dry_run=dry_run):
        return (
            f"Tracktor does not know most of the orders, {missing} of {found + missing}, which is"
            " new: the export may hold another shop's orders, or the uuid may be another account's."
            " If it is right, do nothing: this is reported once"
        ), 0
    return "", 0


def _why_none(credentials: TracktorCredentials) -> tuple[bool | None, str, int]:
    """Return whether the account exists, the likely error, and the number of calls it took."""
    with credentials.get_client() as client:
        try:
            known: bool | None = bool(client.get_status_options())
        except (NotFound, AuthenticationError):
            known = False
        except TracktorError:
            known = None
        return known, _REASONS[known], client.requests_sent


def _variable(credentials: TracktorCredentials) -> str:
    """Return the variable's name for the account, flow and deployment."""
    # Prefect allows fewer characters in it than in names of flows and deployments
    job = f"{flow_run.get_flow_name()} {deployment_name()}"
    return f"tracktor_missing_{credentials.account}_{sha256(job.encode()).hexdigest()[:12]}"


def _is_new(name: str, *, most: bool, dry_run: bool) -> bool:
    """Whether the run before had another result, which a Prefect variable stores."""
    try:
        before = bool(Variable.get(name, default=None))
        if most and not before and not dry_run:
            Variable.set(name, "most of the orders are unknown", overwrite=True)
        if before and not most and not dry_run:
            Variable.unset(name)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("The variable %s cannot be used: %s", name, type(error).__name__)
        return True
    return most and not before

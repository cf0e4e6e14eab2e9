"""OAuth 2.0 for mail servers: access tokens, kept until shortly before they expire."""

import json
import logging
import re
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

import httpx
from prefect.exceptions import PrefectException
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from prefect_tracktor.errors import InvalidInput, MailServerError
from prefect_tracktor.forms import FORM
from prefect_tracktor.http.client import HttpClient
from prefect_tracktor.messages.refresh_tokens import save_refresh_token, saved_refresh_token
from prefect_tracktor.messages.replies import Cause
from prefect_tracktor.text import public_error, refuse_masked
from prefect_tracktor.validation import checked_address

_log = logging.getLogger(__name__)

_SECONDS_FOR_A_TOKEN = 30
_RENEWED_BEFORE_SECONDS = 120
_PAUSES = (0, 1, 2)
# if the endpoint does not say how long a token is valid
_DEFAULT_SECONDS = 600
_LONGEST_SECONDS = 86_400

_ERROR = re.compile(r"[a-z_]{1,60}")
_MICROSOFT_CODE = re.compile(r"AADSTS\d{3,8}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,20000}")


class OAuth2(BaseModel):
    """A login with access tokens instead of a password, for Microsoft 365, Google and others.

    With a refresh token it acts for the account that granted it. Without one it uses client
    credentials, as applications do in Microsoft 365.

    Attributes:
        token_endpoint: The address that issues access tokens, from the provider's documentation.
        client_id: The application's id at the provider.
        client_secret: The application's secret, not the secret's id.
        refresh_token: The token that the mailbox's owner granted to the application. Empty: the
            application acts for itself, with client credentials. If the provider replaces it, the
            new one is saved in the Mailer's block; if the Mailer is not saved, only the process
            knows it.
        scope: The scope of the token, as the provider writes it; several with blanks between
            them.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats a secret.

    Example:
        >>> OAuth2(
        ...     token_endpoint="https://login.microsoftonline.com/TENANT/oauth2/v2.0/token",
        ...     client_id="6731de76-14a6-49ae-97bc-6eba6914391e",
        ...     client_secret="from-the-app-registration",
        ...     scope="https://outlook.office365.com/.default",
        ... ).grant
        'client_credentials'
    """

    model_config = FORM | ConfigDict(hide_input_in_errors=True, title="OAuth 2.0")

    token_endpoint: str = Field(default="", examples=["https:// ... /oauth2/v2.0/token"])
    client_id: str = Field(default="", examples=["6731de76-14a6-49ae-97bc-6eba6914391e"])
    client_secret: SecretStr = SecretStr("")
    refresh_token: SecretStr = SecretStr("")
    scope: str = ""

    @field_validator("token_endpoint")
    @classmethod
    def _endpoint_is_safe(cls, value: str) -> str:
        return checked_address(value.strip(), field="token_endpoint") if value else ""

    @model_validator(mode="after")
    def _fields_are_complete(self) -> Self:
        secrets = (self.client_secret, self.refresh_token)
        is_secret = any(secret.get_secret_value() for secret in secrets)
        if not (self.is_set or is_secret or self.client_id or self.scope):
            return self
        if not (self.token_endpoint and self.client_id):
            raise InvalidInput("token_endpoint and client_id must both be set to log in by OAuth2")
        if not is_secret:
            raise InvalidInput("client_secret is empty: set it, or a refresh_token")
        return self

    @property
    def is_set(self) -> bool:
        """Whether the login uses OAuth 2.0."""
        return bool(self.token_endpoint)

    @property
    def grant(self) -> str:
        """The grant type."""
        has_token = bool(self.refresh_token.get_secret_value())
        return "refresh_token" if has_token else "client_credentials"

    @property
    def form(self) -> dict[str, str]:
        """The fields of a request to the token endpoint."""
        fields = {"grant_type": self.grant, "client_id": self.client_id, "scope": self.scope}
        for name in ("client_secret", "refresh_token"):
            fields[name] = getattr(self, name).get_secret_value()
            refuse_masked(fields[name], field=f"oauth2.{name}")
        return {name: value for name, value in fields.items() if value}


# access tokens of this process, and the times until which they are used
_tokens: dict[OAuth2, tuple[str, float]] = {}
# logins with a new refresh token, by the login with the block's
_renewed: dict[OAuth2, OAuth2] = {}
_lock = threading.Lock()


def access_token(oauth2: OAuth2, *, saved_as: str = "") -> str:
    """Return a valid access token, from the cache or from the token endpoint.

    A refresh token that the provider replaces is saved in the Mailer block of that name.
    """
    with _lock:
        token, valid_until = _tokens.get(oauth2, ("", 0.0))
        if time.monotonic() < valid_until:
            return token
        used = _renewed.get(oauth2, oauth2)
        status, fields = _request_token(used)
        is_void = used.grant == "refresh_token" and fields.get("error") == "invalid_grant"
        if is_void and saved_as and (other := _renewed_elsewhere(used, saved_as)):
            used = other
            status, fields = _request_token(used)
        token, seconds = _parse_token(status, fields, used)
        _keep(oauth2, used, fields.get("refresh_token"), saved_as)
        # a token that is valid for less than the margin is used once
        _tokens[oauth2] = token, time.monotonic() + seconds - _RENEWED_BEFORE_SECONDS
        return token


def _with_refresh_token(oauth2: OAuth2, token: object) -> OAuth2:
    if oauth2.grant != "refresh_token" or not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return oauth2
    return oauth2.model_copy(update={"refresh_token": SecretStr(token)})


def _renewed_elsewhere(oauth2: OAuth2, name: str) -> OAuth2 | None:
    """Return the login with a token that another process has saved, or saves within seconds."""
    for pause in _PAUSES:
        time.sleep(pause)
        with suppress(httpx.HTTPError, PrefectException):
            saved = _with_refresh_token(oauth2, saved_refresh_token(name))
            if saved != oauth2:
                return saved
    return None


def _keep(original: OAuth2, used: OAuth2, token: object, saved_as: str) -> None:
    """Keep a new refresh token: the old one may be void."""
    renewed = _with_refresh_token(used, token)
    if renewed == original:
        return
    is_new = _renewed.get(original) != renewed
    _renewed[original] = renewed
    if not saved_as:
        if is_new:
            _log.warning(
                "The provider has replaced oauth2.refresh_token. This Mailer is not saved, so only"
                " this process knows the new token: save the Mailer in Prefect, and load it."
            )
        return
    known = {login.refresh_token.get_secret_value() for login in (original, used, renewed)}
    new = renewed.refresh_token.get_secret_value()
    try:
        is_saved = save_refresh_token(saved_as, new, known=known)
    except (httpx.HTTPError, PrefectException) as error:
        raise _no_token(
            "the provider has replaced the refresh token, and the new one cannot be saved in the"
            f" block tracktor-mailer/{saved_as} ({type(error).__name__})",
            "Check that Prefect answers and the block exists; if the next login is refused, make a"
            " new oauth2.refresh_token.",
        ) from None
    if not is_saved:
        _log.warning(
            "The block tracktor-mailer/%s has another oauth2.refresh_token by now, from another"
            " process or a person: it stays, and the next run uses it.",
            saved_as,
        )


def forget_token(oauth2: OAuth2) -> None:
    _tokens.pop(oauth2, None)


def _request_token(oauth2: OAuth2) -> tuple[int, dict[str, Any]]:
    """Return the status and the fields of the token endpoint's response."""
    try:
        with HttpClient(seconds=_SECONDS_FOR_A_TOKEN) as client:
            response = client.send(
                "POST",
                oauth2.token_endpoint,
                headers={
                    "content-type": "application/x-www-form-urlencoded",
                    "accept": "application/json",
                    "accept-encoding": "identity",
                },
                body=urlencode(oauth2.form).encode(),
            )
    except httpx.HTTPError as error:
        raise _no_token(
            f"the token endpoint does not answer ({public_error(error)})",
            "Check oauth2.token_endpoint of the Mailer block, and the network.",
        ) from None
    try:
        fields = json.loads(response.body)
    except (ValueError, RecursionError):
        fields = {}
    return response.status_code, fields if isinstance(fields, dict) else {}


def _parse_token(status: int, fields: dict[str, Any], oauth2: OAuth2) -> tuple[str, float]:
    """Return the access token, and for how many seconds it is valid."""
    token = fields.get("access_token")
    if status != HTTPStatus.OK or not token:
        raise _refusal(status, fields, oauth2)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _no_token(
            "the token endpoint's response has no usable access_token",
            "Check oauth2.token_endpoint of the Mailer block.",
        )
    return token, _seconds(fields.get("expires_in"))


def _seconds(value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # at some providers a string
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_SECONDS
    return min(seconds, _LONGEST_SECONDS) if seconds > 0 else _DEFAULT_SECONDS


def _refusal(status: int, fields: dict[str, Any], oauth2: OAuth2) -> MailServerError:
    error = str(fields.get("error", ""))
    error = error if _ERROR.fullmatch(error) else ""
    code = _MICROSOFT_CODE.search(str(fields.get("error_description", "")))
    names = [error, code[0] if code else ""]
    # other text may be anything, and is not shown
    shown = " ".join(filter(None, [str(status), *names]))
    cause = Cause.RATE if status == HTTPStatus.TOO_MANY_REQUESTS else Cause.LOGIN
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or error == "temporarily_unavailable":
        cause = Cause.OTHER
    return _no_token(
        f"the token endpoint refuses the login: {shown}", _remedy(names, cause, oauth2), cause
    )


def _no_token(problem: str, remedy: str, cause: Cause = Cause.OTHER) -> MailServerError:
    return MailServerError(
        f"the mail server cannot be used: there is no access token: {problem}. {remedy}",
        cause=cause,
    )


_CONSENT = "Grant the application its permission (admin consent), and sign in anew."
_ID = "Check oauth2.client_id: no application with this id is known there, or it is disabled."
_WRONG_VALUE = (
    "Check oauth2.client_secret: it must be the secret's value, not its id, and must not have"
    " expired; if it has, make a new one at the provider."
)
_TENANT = "Check oauth2.token_endpoint: it must hold the id of your own tenant (directory)."
_SCOPE = "Check oauth2.scope"
_APP_SCOPE = f"{_SCOPE}: with client credentials it is https://outlook.office365.com/.default."
_POLICY = (
    "A policy of the tenant (conditional access, multi-factor) blocks the sign-in: ask the"
    " administrator to allow it, or use client credentials."
)
_REFRESH = (
    "Make a new oauth2.refresh_token: it has expired, was revoked, or was issued to another"
    " client_id. Google ends those of an app in the state Testing after 7 days; a provider that"
    " replaces it at each login ends it if two processes use the same one."
)
# Microsoft's own codes say more than OAuth's, and come first
_REMEDIES = {
    "AADSTS7000215": _WRONG_VALUE,
    "AADSTS7000222": _WRONG_VALUE,
    "AADSTS7000218": "Set oauth2.client_secret: the application needs one.",
    "AADSTS700016": f"{_ID} {_TENANT}",
    "AADSTS7000112": _ID,
    "AADSTS90002": _TENANT,
    "AADSTS900023": _TENANT,
    "AADSTS65001": _CONSENT,
    "AADSTS500011": _APP_SCOPE,
    "AADSTS70011": _APP_SCOPE,
    "AADSTS1002012": _APP_SCOPE,
    "AADSTS700082": _REFRESH,
    "AADSTS50173": _REFRESH,
    "AADSTS50076": _POLICY,
    "AADSTS50079": _POLICY,
    "AADSTS53003": _POLICY,
    "invalid_client": f"{_WRONG_VALUE} {_ID}",
    "deleted_client": _ID,
    "disabled_client": _ID,
    "invalid_grant": _REFRESH,
    "invalid_scope": f"{_SCOPE}: the provider does not know it, or does not allow it here.",
    "access_denied": _CONSENT,
    "consent_required": _CONSENT,
    "interaction_required": _POLICY,
    "admin_policy_enforced": "Ask the Google Workspace administrator to trust the application.",
    "org_internal": "The application is for accounts of another organization only.",
    "unauthorized_client": "Allow this grant for the application at the provider, and check that"
    " the refresh token was issued to this client_id.",
    "unsupported_grant_type": "The provider supports no client credentials for mail, or no"
    " refresh tokens: set oauth2.refresh_token, or leave it out.",
}


def _remedy(names: list[str], cause: Cause, oauth2: OAuth2) -> str:
    if cause is not Cause.LOGIN:
        return "Nothing was sent; the next run tries again."
    known = next((_REMEDIES[name] for name in reversed(names) if name in _REMEDIES), "")
    if known == _REFRESH and oauth2.grant == "client_credentials":
        known = f"{_WRONG_VALUE} {_APP_SCOPE}"
    return known or "Check token_endpoint, client_id and client_secret of the Mailer's oauth2."

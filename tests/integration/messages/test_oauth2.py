"""OAuth 2.0: access tokens, and logins at a server that accepts only XOAUTH2."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, Mailer, OAuth2
from prefect_tracktor.errors import MailServerError
from prefect_tracktor.messages import oauth2 as module
from prefect_tracktor.messages.oauth2 import access_token
from prefect_tracktor.messages.smtp import MailSession
from tests.integration.messages.scripted import scripted
from tests.integration.messages.test_smtp import SENT, send
from tests.support.mailers import mailer_at
from tests.support.oauth import MAILBOX, TokenEndpoint, xoauth2_server
from tests.support.scripted import DrippingServer, ScriptedServer, answer


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint().serving() as serving:
        yield serving


def mailer_with(port: int, oauth2: OAuth2, **options: Any) -> Mailer:
    return mailer_at(port, username=MAILBOX, oauth2=oauth2, **options)


@pytest.mark.parametrize(
    ("fields", "requested"),
    [
        (
            {"scope": "https://outlook.office365.com/.default"},
            {"grant_type": "client_credentials", "scope": "https://outlook.office365.com/.default"},
        ),
        (
            {"refresh_token": "r3fresh"},
            {"grant_type": "refresh_token", "refresh_token": "r3fresh"},
        ),
        (
            {"refresh_token": "r3fresh", "client_secret": ""},
            {"grant_type": "refresh_token", "refresh_token": "r3fresh"},
        ),
    ],
)
def test_messages_are_sent_with_an_access_token(
    endpoint: TokenEndpoint, fields: dict[str, str], requested: dict[str, str]
) -> None:
    oauth2 = endpoint.oauth2(**fields)
    with (
        xoauth2_server(endpoint) as (port, server),
        MailSession(mailer_with(port, oauth2)) as session,
    ):
        assert [send(session), send(session)] == [SENT, SENT]
    secret = {} if fields.get("client_secret") == "" else {"client_secret": "s3cret-s3"}
    assert endpoint.requested == [{"client_id": "app"} | secret | requested]
    assert server.logins == [True]
    assert len(server.recipients) == 2


def test_an_access_token_is_cached_until_shortly_before_it_expires(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    oauth2 = endpoint.oauth2()
    first = access_token(oauth2)
    assert access_token(endpoint.oauth2()) == first
    assert access_token(endpoint.oauth2(scope="other")) != first
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600 - 100)
    assert access_token(oauth2) != first
    assert len(endpoint.requested) == 3


@pytest.mark.parametrize("expires_in", [None, "3600", "soon", -1, float("nan"), float("inf")])
def test_a_token_with_an_unusable_lifetime_is_accepted(expires_in: Any) -> None:
    with TokenEndpoint(expires_in=expires_in).serving() as endpoint:
        assert access_token(endpoint.oauth2()) == endpoint.issued[0]


def test_a_revoked_access_token_is_replaced_once(endpoint: TokenEndpoint) -> None:
    mailer_of = endpoint.oauth2
    with xoauth2_server(endpoint) as (port, server):
        mailer_with(port, mailer_of()).verify()
        endpoint.revoked.add(endpoint.issued[0])
        mailer_with(port, mailer_of()).verify()
        assert server.logins == [True, False, True]
        assert server.challenge_responses == [b""]
        assert len(endpoint.issued) == 2


def test_a_refusal_of_a_new_token_names_the_remedy(
    endpoint: TokenEndpoint,
) -> None:
    with xoauth2_server(endpoint) as (port, server):
        mailer = mailer_at(port, username="other@shop.example", oauth2=endpoint.oauth2())
        with pytest.raises(MailServerError, match=r"535 5\.7\.3.*SMTP\.SendAsApp") as failed:
            mailer.verify()
    assert server.logins == [False, False]
    assert "t0ken" not in str(failed.value)
    assert "@" not in str(failed.value)


def test_no_login_is_sent_to_a_server_without_xoauth2(endpoint: TokenEndpoint) -> None:
    with scripted() as server:
        with pytest.raises(MailServerError, match=r"offers no login with XOAUTH2.*Check host"):
            mailer_with(server.port, endpoint.oauth2()).verify()
        assert server.commands["AUTH"] == 0


@pytest.mark.parametrize("command", ["AUTH", "MAIL"])
def test_a_login_echoed_by_the_server_is_hidden(endpoint: TokenEndpoint, command: str) -> None:
    oauth2 = endpoint.oauth2()
    token = access_token(oauth2)
    line = base64.b64encode(f"user={MAILBOX}\1auth=Bearer {token}\1\1".encode()).decode()
    script = {command: [f"500 5.5.1 Unknown: {line[:200]} {token}"] * 2}
    with (
        scripted(EHLO=["250-x\r\n250 AUTH XOAUTH2"] * 4, **script) as server,
        pytest.raises(MailServerError) as failed,
        MailSession(mailer_with(server.port, oauth2)) as session,
    ):
        send(session)
    assert "Unknown: …" in str(failed.value)
    assert "t0ken" not in str(failed.value)
    assert line[:40] not in str(failed.value)


AADSTS = "AADSTS{}: something about customer ada@example.com. Trace ID: 0f"


@pytest.mark.parametrize(
    ("status", "body", "shown", "remedy"),
    [
        (401, {"error": "invalid_client"}, "401 invalid_client", "oauth2.client_secret: it must"),
        (400, {"error": "invalid_grant"}, "400 invalid_grant", "oauth2.client_secret"),
        (
            401,
            {"error": "invalid_client", "error_description": AADSTS.format(7000215)},
            "401 invalid_client AADSTS7000215",
            "not its id",
        ),
        (
            400,
            {"error": "unauthorized_client", "error_description": AADSTS.format(700016)},
            "AADSTS700016",
            "Check oauth2.client_id",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": AADSTS.format(65001)},
            "AADSTS65001",
            "admin consent",
        ),
        (
            400,
            {"error": "invalid_scope", "error_description": AADSTS.format(1002012)},
            "AADSTS1002012",
            "office365.com/.default",
        ),
        (
            400,
            {"error": "invalid_request", "error_description": AADSTS.format(90002)},
            "AADSTS90002",
            "Check oauth2.token_endpoint",
        ),
        (400, {"error": "brand_new_error"}, "brand_new_error", "Check token_endpoint, client_id"),
        (400, {"error": "ada@example.com"}, "refuses the login: 400. ", "Check token_endpoint"),
        (404, b"<html>ada@example.com</html>", "refuses the login: 404. ", "Check token_endpoint"),
        (200, b"[1]", "refuses the login: 200. ", "Check token_endpoint"),
        (200, {"access_token": "a b"}, "no usable access_token", "Check oauth2.token_endpoint"),
        (200, {"access_token": ["x"]}, "no usable access_token", "Check oauth2.token_endpoint"),
        (302, b"", "refuses the login: 302. ", "Check token_endpoint"),
        (503, b"busy", "503", "the next run tries again"),
    ],
)
def test_a_refusal_of_the_token_endpoint_names_the_remedy(
    status: int, body: Any, shown: str, remedy: str
) -> None:
    with TokenEndpoint([(status, body)]).serving() as endpoint:
        with pytest.raises(MailServerError) as failed:
            mailer_with(9, endpoint.oauth2()).verify()
        assert len(endpoint.requested) == 1
    assert shown in str(failed.value)
    assert remedy in str(failed.value)
    assert "s3cret-s3" not in str(failed.value)
    assert "ada" not in str(failed.value)


def test_an_expired_refresh_token_has_to_be_replaced() -> None:
    body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    with (
        TokenEndpoint([(400, body)]).serving() as endpoint,
        pytest.raises(MailServerError, match=r"new oauth2\.refresh_token") as failed,
    ):
        access_token(endpoint.oauth2(refresh_token="r3fresh"))
    assert "r3fresh" not in str(failed.value)


def test_a_rate_limited_token_request_is_retried() -> None:
    with TokenEndpoint([(429, {})]).serving() as endpoint, xoauth2_server(endpoint) as (port, _):
        with MailSession(mailer_with(port, endpoint.oauth2())) as session:
            assert send(session) == SENT
        assert len(endpoint.requested) == 2


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
def test_an_endless_token_response_times_out(
    monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(module, "_SECONDS_FOR_A_TOKEN", 0.3)
    with DrippingServer(beginning or b"HTTP/1.1 200 OK\r\nx: ", b" ") as server:
        oauth2 = OAuth2(token_endpoint=server.address, client_id="a", client_secret="b")
        with pytest.raises(MailServerError, match="does not answer"):
            access_token(oauth2)


def test_a_redirected_token_request_does_not_send_the_secret() -> None:
    with TokenEndpoint().serving() as target:
        moved = answer(307, headers=f"Location: {target.address}\r\n")
        with ScriptedServer([moved]) as server:
            oauth2 = OAuth2(token_endpoint=server.address, client_id="a", client_secret="b")
            with pytest.raises(MailServerError, match="307"):
                access_token(oauth2)
        assert not target.requested


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"oauth2": {"client_id": "a"}}, "token_endpoint and client_id must both"),
        ({"oauth2": {"client_secret": "s3cret-s3"}}, "token_endpoint and client_id must both"),
        (
            {"oauth2": {"token_endpoint": "https://a.example/t", "client_id": "a"}},
            "client_secret is empty",
        ),
        (
            {
                "oauth2": {
                    "token_endpoint": "http://a.example/t",
                    "client_id": "a",
                    "client_secret": "s3cret-s3",
                }
            },
            "token_endpoint must be an https address",
        ),
        ({"password": "s3cret-s3"}, "password and oauth2 are both set"),
        ({"username": ""}, "username is empty"),
    ],
)
def test_invalid_oauth2_fields_are_refused_without_repeating_secrets(
    options: dict[str, Any], problem: str
) -> None:
    default = {
        "host": "smtp.example.com",
        "sender": f"Shop <{MAILBOX}>",
        "username": MAILBOX,
        "oauth2": {
            "token_endpoint": "https://a.example/token",
            "client_id": "a",
            "client_secret": "s3cret-s3",
        },
    }
    with pytest.raises(ValidationError, match=problem) as refused:
        Mailer.model_validate(default | options)
    assert "s3cret-s3" not in str(refused.value)


def test_a_masked_client_secret_is_not_sent(endpoint: TokenEndpoint) -> None:
    with pytest.raises(InvalidInput, match=r"oauth2\.client_secret is asterisks"):
        access_token(endpoint.oauth2(client_secret="********"))
    assert not endpoint.requested

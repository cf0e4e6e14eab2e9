"""SMTP sessions: the outcomes of messages at healthy and faulty servers."""

import logging
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import Mailer
from prefect_tracktor.errors import InvalidInput, MailServerError
from prefect_tracktor.messages import smtp
from prefect_tracktor.messages.delivery import Delivery, DeliveryOutcome
from prefect_tracktor.messages.mailer import Security
from prefect_tracktor.messages.smtp import MailSession
from prefect_tracktor.messages.smtp_connection import Connection
from prefect_tracktor.sandbox import MailFaults, MailServer
from tests.integration.messages.scripted import (
    DRIP,
    FLOOD,
    HANG_UP,
    SILENCE,
    ScriptedServer,
    scripted,
)
from tests.support.mailers import SENDER, mailer_at

ADA = "ada@example.com"
SENT = Delivery(DeliveryOutcome.SENT)


def message_of(text: str = "Hello.\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = ADA
    message["Subject"] = "Où est ton colis, 李?"
    message.set_content(text)
    return message


def send(session: MailSession, recipient: str = ADA, *, text: str = "Hello.\n") -> Delivery:
    return session.send(message_of(text), recipient=recipient)


def mailer_with_login(server: MailServer | ScriptedServer, **options: Any) -> Mailer:
    return mailer_at(server.port, **{"username": "shop", "password": "s3cret"} | options)


def send_two(server: ScriptedServer, *, timeout_seconds: float = 5) -> list[Delivery]:
    """Send two messages: the second shows that the first one's outcome does not stop sending."""
    with MailSession(server.mailer(), timeout_seconds=timeout_seconds) as session:
        return [send(session), send(session)]


class TestHealthyServer:
    def test_many_messages_share_one_connection(self) -> None:
        with scripted() as server, MailSession(server.mailer()) as session:
            assert [send(session) for _ in range(20)] == [SENT] * 20
            assert server.commands["CONNECT"] == 1
            assert server.commands["RSET"] == 0
            assert len(server.contents) == 20

    def test_each_message_arrives_whole_with_its_envelope(
        self, mail_server: MailServer, mailer: Mailer
    ) -> None:
        text = ".\n..\nGrüße\nFrom here\n.\nRCPT TO:<eve@example.com>\n"
        with MailSession(mailer) as session:
            assert send(session, text=text) == SENT
        [received] = mail_server.messages
        assert (received.sender, received.recipients) == ("orders@sandbox-shop.example", (ADA,))
        assert received.message["Subject"] == "Où est ton colis, 李?"
        # base64 or quoted-printable: importing apprise changes the default of Python's library
        assert received.message.get_content().splitlines() == text.splitlines()
        assert received.raw.isascii()

    def test_bare_line_breaks_are_normalized(self) -> None:
        message = EmailMessage()
        message["Subject"] = "Hello"
        message.set_payload("a\n.\nb\r.\rMAIL FROM:<eve@example.com>")
        with scripted() as server, MailSession(server.mailer()) as session:
            assert session.send(message, recipient=ADA) == SENT
        [content] = server.contents
        assert content.endswith(b"a\r\n..\r\nb\r\n..\r\nMAIL FROM:<eve@example.com>\r\n")

    def test_a_session_ends_with_quit(self) -> None:
        with scripted() as server:
            assert send_two(server) == [SENT, SENT]
            assert server.commands["QUIT"] == 1


class TestRecipient:
    @pytest.mark.parametrize(
        "reply",
        [
            "550 5.1.1 <ada@example.com>: Recipient address rejected: User unknown",
            "550 5.1.2 Bad destination system",
            "556 5.1.10 Recipient address has null MX",
            "550 5.2.1 The mailbox is disabled",
            "550-5.1.1 No such user ada\r\n550 5.1.1 here",
            "550 No such user here",
            "550 sorry, no mailbox here by that name. (#5.1.1)",
            "551 User not local",
            "553 Mailbox name invalid",
            "501 Bad recipient address syntax",
        ],
    )
    def test_an_unknown_recipient_is_refused(self, reply: str) -> None:
        with scripted(RCPT=[reply]) as server:
            refused, following = send_two(server)
            assert refused.outcome is DeliveryOutcome.REFUSED
            assert refused.reason.startswith(reply[:3])
            assert "ada" not in refused.reason
            assert following == SENT
            assert server.commands["RSET"] == 1
            assert server.commands["CONNECT"] == 1

    @pytest.mark.parametrize(
        "reply",
        [
            "450 4.2.0 Greylisted, try again later",
            "451 Try again later",
            "452 4.2.2 Mailbox full",
            "550 5.7.1 Relaying denied",
            "550 5.7.26 Unauthenticated mail",
            "552 5.2.2 Mailbox full",
            "550 5.4.5 Daily sending quota exceeded",
            "550 5.4.1 Recipient address rejected: Access denied",
            "550 5.0.0 Something else",
            "550 relay not permitted",
            "550 Message rejected as spam, blocked 5.1.1.7",
            "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
            "554 Transaction failed",
            "530 Authentication required",
        ],
    )
    def test_a_refusal_for_another_reason_is_deferred(self, reply: str) -> None:
        with scripted(RCPT=[reply]) as server:
            deferred, following = send_two(server)
        assert deferred.outcome is DeliveryOutcome.DEFERRED
        assert deferred.reason.startswith(reply[:3])
        assert following == SENT
        assert len(server.contents) == 1

    def test_the_recipient_is_never_quoted(self) -> None:
        reply = "550 5.1.1 No Ada@Example.com here; Ada Lovelace is unknown, mail +49 30 1234567"
        with scripted(RCPT=[reply]) as server:
            reason = send_two(server)[0].reason
        assert reason == "550 5.1.1 No … here; … is unknown, mail …"

    def test_a_non_ascii_recipient_is_sent_with_smtputf8(
        self, mail_server: MailServer, mailer: Mailer
    ) -> None:
        with MailSession(mailer) as session:
            assert send(session, "zoë@münchen.example") == SENT
        assert mail_server.messages[0].recipients == ("zoë@xn--mnchen-3ya.example",)

    def test_a_non_ascii_recipient_is_deferred_without_smtputf8(self) -> None:
        with scripted() as server, MailSession(server.mailer()) as session:
            delivery = send(session, "zoë@example.com")
            assert delivery.outcome is DeliveryOutcome.DEFERRED
            assert "SMTPUTF8" in delivery.reason
            assert send(session) == SENT
        assert server.commands["MAIL"] == 1

    def test_a_recipient_with_misplaced_dots_is_accepted(
        self, mail_server: MailServer, mailer: Mailer
    ) -> None:
        with MailSession(mailer) as session:
            assert send(session, "ada..lovelace.@docomo.example.com") == SENT
        [received] = mail_server.messages
        assert [r.replace('"', "") for r in received.recipients] == [
            "ada..lovelace.@docomo.example.com"
        ]

    @pytest.mark.parametrize(
        "recipient", ["a@example.com, b@example.com", "Ada <a@example.com>", ""]
    )
    def test_anything_but_one_recipient_is_refused(self, recipient: str) -> None:
        with (
            scripted() as server,
            MailSession(server.mailer()) as session,
            pytest.raises(InvalidInput, match="recipient"),
        ):
            send(session, recipient)
        assert server.commands["MAIL"] == 0


class TestDeferral:
    @pytest.mark.parametrize(
        "script",
        [
            {"MAIL": ["452 4.3.1 Insufficient storage"]},
            {"DATA": ["451 4.3.0 Not now"]},
            {"DATA": ["554 5.5.1 No valid recipients"]},
            {"END": ["451 4.3.0 Not now"]},
            {"END": ["421 4.3.0 Not now"]},
            {"END": ["554 5.7.1 Looks like spam"]},
            {"END": ["550 5.1.1 No such user"]},
        ],
    )
    def test_a_rejected_message_is_deferred(self, script: dict[str, list[str]]) -> None:
        reply = next(iter(script.values()))[0]
        with scripted(**script) as server:
            assert send_two(server) == [Delivery(DeliveryOutcome.DEFERRED, reply), SENT]

    @pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
    @pytest.mark.parametrize("fault", [HANG_UP, "421 4.7.0 Too many", "nonsense", "250" * 5000])
    def test_a_second_break_before_the_content_defers_the_message(
        self, command: str, fault: str
    ) -> None:
        with scripted(**{command: [fault]}) as server:
            assert send_two(server) == [SENT, SENT]
            assert server.commands["CONNECT"] == 2
        with scripted(**{command: [fault, fault]}) as server:
            deferred, following = send_two(server)
            assert deferred.outcome is DeliveryOutcome.DEFERRED
            assert following == SENT
            assert len(server.contents) == 1

    def test_silence_before_the_content_defers_the_message(self) -> None:
        with scripted(RCPT=[SILENCE, SILENCE]) as server:
            deferred, following = send_two(server, timeout_seconds=0.2)
        assert deferred.outcome is DeliveryOutcome.DEFERRED
        assert following == SENT


class TestUnexpectedReply:
    @pytest.mark.parametrize(
        "more", ["451 4.3.0 After all, no", "550 5.1.1 User unknown", "250 ok\r\n550 5.1.1 Unknown"]
    )
    def test_an_extra_reply_is_not_read_as_the_next_messages_reply(self, more: str) -> None:
        with scripted(END=[f"250 queued\r\n{more}"] * 2) as server:
            assert send_two(server) == [SENT, SENT]
            assert server.commands["."] == 2

    @pytest.mark.parametrize("implicit_tls", [True, False])
    def test_tls_records_are_not_read_as_replies(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch, implicit_tls: bool
    ) -> None:
        made: list[Connection] = []

        class Counted(Connection):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                made.append(self)
                super().__init__(*arguments, **options)

        monkeypatch.setattr(smtp, "Connection", Counted)
        with tls_server(certificate, implicit_tls=implicit_tls) as (server, kind):
            mailer = mailer_with_login(server, security=kind, verify_certificate=False)
            with MailSession(mailer) as session:
                assert [send(session) for _ in range(3)] == [SENT] * 3
        assert len(made) == 1

    def test_an_unexpected_reply_to_data_stops_the_content(self) -> None:
        with scripted(DATA=["250 fine"]) as server:
            assert send_two(server) == [SENT, SENT]
            assert server.commands["."] == 2


class TestUncertainDelivery:
    @pytest.mark.parametrize("fault", [HANG_UP, SILENCE, "nonsense", "250" * 5000])
    def test_a_missing_reply_to_the_content_is_uncertain(self, fault: str) -> None:
        with scripted(END=[fault]) as server:
            uncertain, following = send_two(server, timeout_seconds=0.5)
        assert uncertain.outcome is DeliveryOutcome.UNCERTAIN
        assert following == SENT
        assert len(server.contents) == 2

    @pytest.mark.parametrize(("fault", "kept"), [("drop_in_data", 1), ("drop_after_data", 2)])
    def test_a_break_around_the_content_is_uncertain(
        self,
        mail_server: MailServer,
        mailer: Mailer,
        fault: str,
        kept: int,
    ) -> None:
        mail_server.faults = MailFaults.model_validate({fault: 2})
        with MailSession(mailer) as session:
            outcomes = [send(session).outcome for _ in range(2)]
            assert outcomes == [DeliveryOutcome.SENT, DeliveryOutcome.UNCERTAIN]
            assert len(mail_server.messages) == kept
            assert send(session) == SENT


class TestEndlessReply:
    """Each operation has a time limit; the server would go on for 20 seconds."""

    @pytest.mark.parametrize("endless", [DRIP, FLOOD])
    @pytest.mark.parametrize("step", ["CONNECT", "EHLO", "AUTH"])
    def test_an_endless_reply_while_connecting_is_an_error(self, step: str, endless: str) -> None:
        began = time.monotonic()
        with scripted(**{step: [endless]}, HELO=[endless]) as server:
            mailer = server.mailer(username="shop", password="s3cret")
            with pytest.raises(MailServerError, match=r"timed out|longer than 65536 bytes"):
                MailSession(mailer, timeout_seconds=0.5).__enter__()
            assert time.monotonic() - began < 10

    @pytest.mark.parametrize("endless", [DRIP, FLOOD])
    @pytest.mark.parametrize(
        ("step", "outcome"),
        [
            ("MAIL", DeliveryOutcome.DEFERRED),
            ("RCPT", DeliveryOutcome.DEFERRED),
            ("DATA", DeliveryOutcome.DEFERRED),
            (".", DeliveryOutcome.UNCERTAIN),
        ],
    )
    def test_an_endless_reply_delays_a_message_by_the_timeout_only(
        self, step: str, outcome: DeliveryOutcome, endless: str
    ) -> None:
        began = time.monotonic()
        with scripted(**{step: [endless] * (1 if step == "." else 2)}) as server:
            first, following = send_two(server, timeout_seconds=0.5)
            assert time.monotonic() - began < 10
        assert first.outcome is outcome
        assert following == SENT

    def test_an_endless_reply_to_quit_is_cut_off(self) -> None:
        began = time.monotonic()
        with scripted(QUIT=[DRIP]) as server:
            assert send_two(server, timeout_seconds=0.5) == [SENT, SENT]
            assert time.monotonic() - began < 10

    def test_a_server_that_reads_nothing_times_out(self) -> None:
        began = time.monotonic()
        with scripted(DATA=["354 go on, " + SILENCE]) as server:
            with MailSession(server.mailer(), timeout_seconds=0.5) as session:
                outcome = send(session, text="x" * 30_000_000).outcome
            assert time.monotonic() - began < 15
        assert outcome is DeliveryOutcome.UNCERTAIN


class TestRateLimit:
    @pytest.mark.parametrize(
        "reply",
        [
            "454 Throttling failure: Maximum sending rate exceeded.",
            "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
            "450 4.2.1 Peak SMTP relay limit exceeded for customer",
            "452 4.4.5 Messages per second limit exceeded",
            "421 4.4.5 Server busy, try again later",
            "550 5.7.0 Requested action not taken: too many emails per second",
        ],
    )
    @pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "."])
    def test_a_rate_limited_message_is_sent_after_a_pause(
        self, command: str, reply: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with scripted(**{command: [reply, reply]}) as server:
            assert send_two(server) == [SENT, SENT]
            assert len(server.contents) == 2 + 2 * (command == ".")
        if not reply.startswith("421"):  # a new connection may suffice
            assert caplog.text.count("fewer messages at a time") == 1

    def test_a_rate_limit_while_connecting_is_waited_out(self) -> None:
        busy = "421 4.7.0 Too many concurrent SMTP connections"
        with scripted(CONNECT=[busy, "220 x", busy, "220 x"], MAIL=["250 fine", HANG_UP]) as server:
            assert send_two(server) == [SENT, SENT]

    def test_a_permanent_rate_limit_defers_the_messages(self) -> None:
        reply = "454 Throttling failure: Maximum sending rate exceeded."
        with (
            scripted(RCPT=[lambda: reply]) as server,
            MailSession(server.mailer(), backoff_seconds=1.5) as session,
        ):
            began = time.monotonic()
            assert [send(session) for _ in range(3)] == [
                Delivery(DeliveryOutcome.DEFERRED, reply)
            ] * 3
            assert time.monotonic() - began < 15

    def test_a_session_keeps_to_messages_per_second(self) -> None:
        with scripted() as server, MailSession(server.mailer(messages_per_second=4)) as session:
            began = time.monotonic()
            assert [send(session) for _ in range(5)] == [SENT] * 5
            assert time.monotonic() - began >= 0.95


def test_a_dropped_connection_loses_no_message(mail_server: MailServer, mailer: Mailer) -> None:
    mail_server.faults = MailFaults(drop_every=3)
    with MailSession(mailer) as session:
        assert {send(session, f"a{number}@example.com") for number in range(10)} == {SENT}
    addressed = [received.recipients for received in mail_server.messages]
    assert addressed == [(f"a{number}@example.com",) for number in range(10)]


class TestUnusableServer:
    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            ({"CONNECT": ["554 5.7.1 Go away"]}, "connecting failed: 554 5.7.1 …"),
            ({"CONNECT": [HANG_UP]}, "connecting failed: Connection unexpectedly closed"),
            ({"CONNECT": [SILENCE]}, "connecting failed: .*timed out"),
            ({"EHLO": [SILENCE]}, "connecting failed: .*timed out"),
            ({"EHLO": ["502 what?"], "HELO": ["502 what?"]}, "connecting failed: 502 what?"),
        ],
    )
    def test_connection_errors_occur_before_the_first_message(
        self, script: dict[str, list[str]], problem: str
    ) -> None:
        with (
            scripted(**script) as server,
            pytest.raises(MailServerError, match=problem),
            MailSession(server.mailer(), timeout_seconds=0.2),
        ):
            pass
        assert server.commands["MAIL"] == 0

    def test_silence_during_the_tls_handshake_times_out(self) -> None:
        with scripted(CONNECT=[SILENCE]) as server:
            mailer = server.mailer(security=Security.TLS)
            with pytest.raises(MailServerError, match=r"connecting failed: no answer within 0.2 s"):
                MailSession(mailer, timeout_seconds=0.2).__enter__()

    def test_a_refused_connection_names_the_fields_to_check(self) -> None:
        with scripted() as server:
            mailer = server.mailer()
        with pytest.raises(MailServerError, match=r"refused.*Check host, port and security of"):
            MailSession(mailer).__enter__()

    def test_a_server_lost_during_the_run_is_an_error(self) -> None:
        with (
            scripted(MAIL=["250 fine", HANG_UP], CONNECT=["220 x", HANG_UP, HANG_UP]) as server,
            MailSession(server.mailer()) as session,
        ):
            assert send(session) == SENT
            with pytest.raises(MailServerError, match="connecting failed"):
                send(session)
            assert server.commands["CONNECT"] == 3
            assert send(session) == SENT

    def test_a_brief_outage_is_retried(self) -> None:
        with scripted(MAIL=[HANG_UP], CONNECT=["220 x", "421 busy"]) as server:
            assert send_two(server) == [SENT, SENT]
            assert server.commands["CONNECT"] == 3

    @pytest.mark.parametrize(
        "script",
        [
            {"MAIL": ["550 5.7.1 orders@shop.example may not"]},
            {"RCPT": ["550 5.1.8 <orders@shop.example>: Sender address rejected"]},
            {"RCPT": ["553 5.1.7 Bad sender"]},
        ],
    )
    def test_a_refused_sender_is_an_error(self, script: dict[str, list[str]]) -> None:
        with scripted(**script) as server, MailSession(server.mailer()) as session:
            with pytest.raises(MailServerError, match="refuses the sender: 55") as refused:
                send(session)
            assert "@" not in str(refused.value)
            assert send(session) == SENT

    @pytest.mark.parametrize(
        ("reply", "remedy"),
        [
            ("530 5.7.0 Must issue a STARTTLS command first.", "security"),
            ("530 5.7.57 Client not authenticated to send mail.", "username, password"),
            (
                "550 5.7.60 Client does not have permissions to send as this sender",
                "sender address",
            ),
            ("550 5.4.5 Daily user sending limit exceeded.", "reached a limit"),
        ],
    )
    def test_a_refusal_of_every_message_names_the_remedy(self, reply: str, remedy: str) -> None:
        with (
            scripted(MAIL=[reply]) as server,
            MailSession(server.mailer()) as session,
            pytest.raises(MailServerError, match=remedy) as refused,
        ):
            send(session)
        assert ("sender address" in str(refused.value)) is (remedy == "sender address")


class TestLogin:
    def test_each_connection_logs_in_again(self) -> None:
        with scripted(MAIL=[HANG_UP]) as server:
            with MailSession(mailer_with_login(server)) as session:
                assert send(session) == SENT
            assert server.commands["AUTH"] == 2

    @pytest.mark.parametrize(
        ("reply", "password"),
        [("535 5.7.8 s3cret is wrong for shop@shop.example", "s3cret"), ("235 in", "pässword")],
    )
    def test_a_failed_login_is_an_error_without_secrets(self, reply: str, password: str) -> None:
        with (
            scripted(AUTH=[reply]) as server,
            pytest.raises(MailServerError, match=r"the login failed.*Check username") as failed,
        ):
            MailSession(mailer_with_login(server, password=password)).__enter__()
        assert password not in str(failed.value)
        assert "@" not in str(failed.value)
        assert server.commands["MAIL"] == 0

    @pytest.mark.parametrize(
        "repeat",
        [
            "AHNob3AAczNjcmV0LXBhc3M=",
            "AHNOB3AACZNJCMV0LXBHC3M=",
            "AHNob3AAczNjcmV0LX",
            "czNjcmV0LXBhc3M=",
            "s3cret-pass",
            "S3CRET-PASS",
        ],
    )
    @pytest.mark.parametrize("command", ["AUTH", "MAIL"])
    def test_a_login_echoed_by_the_server_is_hidden(self, command: str, repeat: str) -> None:
        with (
            scripted(
                **{command: [f"500 5.5.1 Unrecognized command: AUTH PLAIN {repeat}"]}
            ) as server,
            pytest.raises(MailServerError) as failed,
            MailSession(mailer_with_login(server, password="s3cret-pass")) as session,
        ):
            send(session)
        assert "Unrecognized command: AUTH PLAIN …" in str(failed.value)
        assert repeat not in str(failed.value)

    @pytest.mark.parametrize(
        ("script", "remedy"),
        [
            ({"EHLO": ["250-x\r\n250 AUTH XOAUTH2"]}, "set oauth2 of the Mailer"),
            ({"AUTH": ["550 5.7.30 Basic authentication is not supported"]}, "set oauth2 of the"),
            (
                {"AUTH": ["535 5.7.139 basic authentication is disabled"]},
                "no login with a password",
            ),
            ({"AUTH": ["451 Authentication failed: Maximum credits exceeded"]}, "reached a limit"),
            ({"AUTH": ["534 5.7.9 Application-specific password required"]}, "want one per app"),
        ],
    )
    def test_a_failed_login_names_the_remedy(
        self, script: dict[str, list[str]], remedy: str
    ) -> None:
        with scripted(**script) as server, pytest.raises(MailServerError, match=remedy):
            MailSession(mailer_with_login(server)).__enter__()

    @pytest.mark.parametrize("implicit_tls", [True, False])
    def test_the_login_is_encrypted(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch, implicit_tls: bool
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with tls_server(certificate, implicit_tls=implicit_tls) as (server, kind):
            with MailSession(mailer_with_login(server, security=kind)) as session:
                assert send(session) == SENT
            assert len(server.messages) == 1

    @pytest.mark.parametrize("implicit_tls", [True, False])
    def test_an_invalid_certificate_prevents_the_login(
        self, certificate: Path, implicit_tls: bool
    ) -> None:
        with tls_server(certificate, implicit_tls=implicit_tls) as (server, kind):
            with pytest.raises(MailServerError, match="CERTIFICATE_VERIFY_FAILED"):
                MailSession(mailer_with_login(server, security=kind)).__enter__()
            with MailSession(
                mailer_with_login(server, security=kind, verify_certificate=False)
            ) as session:
                assert send(session) == SENT

    def test_missing_starttls_prevents_the_login(self) -> None:
        with (
            scripted() as server,
            pytest.raises(MailServerError, match=r"STARTTLS failed.*Check security of"),
        ):
            MailSession(mailer_with_login(server, security=Security.STARTTLS)).__enter__()
        assert server.commands["AUTH"] == 0

    @pytest.mark.parametrize(
        ("values", "warnings"),
        [
            ({"host": "mail.invalid"}, 1),
            (
                {
                    "host": "mail.invalid",
                    "security": Security.TLS,
                    "verify_certificate": False,
                },
                1,
            ),
            ({"host": "mail.invalid", "security": Security.TLS}, 0),
            ({"host": "mail.invalid", "username": ""}, 0),
            ({"host": "localhost"}, 0),
            ({}, 0),
        ],
    )
    def test_an_unencrypted_login_logs_a_warning(
        self, values: dict[str, Any], warnings: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        with scripted(CONNECT=["554 no"]) as server:
            session = MailSession(mailer_with_login(server, **values), timeout_seconds=2)
            with caplog.at_level(logging.WARNING), pytest.raises(MailServerError):
                session.__enter__()
        assert caplog.text.count("can be read on its way") == warnings


@contextmanager
def tls_server(certificate: Path, *, implicit_tls: bool) -> Iterator[tuple[MailServer, Security]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    login = ("shop", "s3cret")
    if implicit_tls:
        with MailServer(tls=context, login=login) as server:
            yield server, Security.TLS
    else:
        with MailServer(starttls=context, login=login) as server:
            yield server, Security.STARTTLS

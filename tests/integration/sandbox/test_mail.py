"""SMTP server: kept messages and injected faults."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from prefect_tracktor.sandbox import MailFaults, MailServer


def make_message(to: str = "zoe@example.com") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Shop <shop@sandbox-shop.example>"
    message["To"] = to
    message["Subject"] = "Où est ton colis, 李小龙?"
    message.set_content("Grüße\n.\n..dots\n")
    return message


@contextmanager
def running(faults: MailFaults | None = None) -> Iterator[tuple[MailServer, smtplib.SMTP]]:
    with MailServer(faults=faults) as server:
        session = smtplib.SMTP(server.host, server.port, timeout=5)
        try:
            yield server, session
        finally:
            session.close()


def test_the_mail_server_keeps_messages_with_their_envelope() -> None:
    with running() as (server, session):
        session.send_message(make_message(), "bounces@sandbox-shop.example", ["zoe.1@example.com"])
        [received] = server.messages
    assert received.sender == "bounces@sandbox-shop.example"
    assert received.recipients == ("zoe.1@example.com",)
    assert received.message["Subject"] == "Où est ton colis, 李小龙?"
    assert received.message.get_content().splitlines() == ["Grüße", ".", "..dots"]


def test_messages_stay_after_the_server_stops_until_cleared() -> None:
    with running() as (server, session):
        for number in range(3):
            session.send_message(make_message(f"a{number}@example.com"))
    assert [m.recipients[0][:2] for m in server.messages] == ["a0", "a1", "a2"]
    server.clear()
    assert server.messages == []


def test_recipient_addresses_may_have_unicode_characters() -> None:
    with running() as (server, session):
        session.send_message(make_message("zoë@example.com"))
        assert server.messages[0].recipients == ("zoë@example.com",)


def test_messages_are_also_written_to_files(tmp_path: Path) -> None:
    with MailServer(folder=tmp_path / "mailbox") as server:
        with smtplib.SMTP(server.host, server.port) as session:
            session.send_message(make_message())
            session.send_message(make_message())
        files = sorted((tmp_path / "mailbox").iterdir())
        assert [file.suffix for file in files] == [".eml", ".eml"]
        read = message_from_bytes(files[0].read_bytes(), policy=policy.default)
        assert read["To"] == "zoe@example.com"


def test_no_message_file_is_overwritten_by_a_later_message(tmp_path: Path) -> None:
    for number in (1, 2):
        with (
            MailServer(folder=tmp_path) as server,
            smtplib.SMTP(server.host, server.port) as session,
        ):
            session.send_message(make_message(f"first.{number}@example.com"))
            server.clear()
            session.send_message(make_message(f"second.{number}@example.com"))
    kept = [file.read_text() for file in sorted(tmp_path.iterdir())]
    order = ["first.1", "second.1", "first.2", "second.2"]
    assert [name in text for name, text in zip(order, kept, strict=True)] == [True] * 4


def test_refused_recipients_are_always_refused() -> None:
    with running(MailFaults(refused=frozenset({"zoe@example.com"}))) as (server, session):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            session.send_message(make_message("Zoe@Example.com"))
        assert refused.value.recipients["Zoe@Example.com"][0] == 550
        session.send_message(make_message("ada@example.com"))
        assert len(server.messages) == 1


def test_deferred_recipients_are_accepted_after_the_given_deferrals() -> None:
    faults = MailFaults(deferred=frozenset({"zoe@example.com"}), deferrals=2)
    with running(faults) as (server, session):
        for _ in range(2):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as deferred:
                session.send_message(make_message())
            assert deferred.value.recipients["zoe@example.com"][0] == 451
        session.send_message(make_message())
        assert len(server.messages) == 1


def test_every_sender_is_refused_with_sender_refused() -> None:
    with (
        running(MailFaults(sender_refused=True)) as (_, session),
        pytest.raises(smtplib.SMTPSenderRefused),
    ):
        session.send_message(make_message())


@pytest.mark.parametrize(
    ("fault", "kept"), [("drop_every", 1), ("drop_in_data", 1), ("drop_after_data", 2)]
)
def test_the_connection_is_dropped_at_every_second_message(fault: str, kept: int) -> None:
    with running(MailFaults.model_validate({fault: 2})) as (server, session):
        session.send_message(make_message())
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            session.send_message(make_message())
        assert len(server.messages) == kept
        with smtplib.SMTP(server.host, server.port) as again:
            again.send_message(make_message())
        assert len(server.messages) == kept + 1


def test_mail_faults_can_change_while_the_server_runs() -> None:
    with running() as (server, session):
        server.faults = MailFaults(delay_seconds=30)
        assert session.sock is not None
        session.sock.settimeout(0.2)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            session.send_message(make_message())
        server.faults = MailFaults()
        with smtplib.SMTP(server.host, server.port) as again:
            again.send_message(make_message())
        assert len(server.messages) == 1


def test_senders_must_log_in_if_a_login_is_required() -> None:
    with (
        MailServer(login=("shop", "secret")) as server,
        smtplib.SMTP(server.host, server.port) as session,
    ):
        with pytest.raises(smtplib.SMTPSenderRefused):
            session.send_message(make_message())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            session.login("shop", "wrong")
        session.login("shop", "secret")
        session.send_message(make_message())
        assert len(server.messages) == 1


def test_any_login_is_accepted_if_none_is_required() -> None:
    with running() as (server, session):
        session.login("anybody", "anything")
        session.send_message(make_message())
        assert len(server.messages) == 1


@pytest.mark.parametrize("from_the_start", [True, False])
def test_the_mail_server_supports_tls_and_starttls(certificate: Path, from_the_start: bool) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=str(certificate))
    if from_the_start:
        with (
            MailServer(tls=server_side) as server,
            smtplib.SMTP_SSL(server.host, server.port, context=client_side) as session,
        ):
            session.send_message(make_message())
    else:
        with (
            MailServer(starttls=server_side) as server,
            smtplib.SMTP(server.host, server.port) as session,
        ):
            session.starttls(context=client_side)
            session.send_message(make_message())
    assert len(server.messages) == 1

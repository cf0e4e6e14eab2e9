"""The installed wheel, used as its users do: no checkout, no test tools, another directory."""

import sys
from pathlib import Path

import prefect_tracktor
from prefect_tracktor import Mailer, Mode, OrderFile, TracktorCredentials
from prefect_tracktor.flows import email_expired_exceptions
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop

assert Path(sys.prefix) in Path(prefect_tracktor.__file__).parents, "not the installed wheel"

with Sandbox(Shop(orders=60, expired=5)) as tracktor, MailServer() as mail:
    credentials = TracktorCredentials(
        uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
    )
    credentials.verify()
    tracktor.shop.write_orders_csv(Path("orders.csv"))
    mailer = Mailer(
        host=mail.host,
        port=mail.port,
        security="none",
        sender="Shop <orders@shop.example>",
        mode=Mode.LIVE,
    )
    report = email_expired_exceptions(
        credentials,
        OrderFile(path="orders.csv"),
        mailer,
    )
    assert len(report.read) + sum(report.left_out.values()) == 60, report
    assert len(report.sent) == len(mail.messages) == 5, report

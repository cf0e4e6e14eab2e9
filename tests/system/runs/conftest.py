"""A shop, a mail server and a ledger for a flow to run against."""

from tests.system.flows.conftest import ledger, mail, mailer, run, shopify, tracktor

__all__ = ["ledger", "mail", "mailer", "run", "shopify", "tracktor"]

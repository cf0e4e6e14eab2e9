"""A shop, a mail server and a ledger for a flow to run against."""

from tests.system.flows.conftest import ledger, mail, run, shopify, tracktor

__all__ = ["ledger", "mail", "run", "shopify", "tracktor"]

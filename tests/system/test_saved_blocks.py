"""Saved blocks of a shop, and blocks that several shops share."""

import os
import subprocess
import sys
from collections.abc import Iterator

import fsspec  # type: ignore[import-untyped]
import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import EmailTemplate, InvalidInput, NotificationLedger, OrderFile
from prefect_tracktor.saved_blocks import find_block, find_block_of_shop, shared_ledger

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Save a shared ledger, shared orders, and a ledger of the shop `oslo`."""
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "of-all-shops")
    NotificationLedger(url="sqlite:////data/all.sqlite3").save("of-all-shops", overwrite=True)
    OrderFile(path="all.csv").save("of-all-shops", overwrite=True)
    NotificationLedger(url="sqlite:////data/oslo.sqlite3").save("oslo", overwrite=True)
    yield
    NotificationLedger.delete("of-all-shops")
    OrderFile.delete("of-all-shops")
    NotificationLedger.delete("oslo")


def address_of(shop: str) -> str:
    ledger = find_block_of_shop(NotificationLedger, shop)
    assert isinstance(ledger, NotificationLedger)
    return ledger.url.get_secret_value()


def test_a_shop_uses_its_own_ledger_or_the_shared_one(
    shared: None,
) -> None:
    assert address_of("bergen") == "sqlite:////data/all.sqlite3"
    assert address_of("oslo") == "sqlite:////data/oslo.sqlite3"
    assert find_block_of_shop(OrderFile, "bergen") is None


def test_the_shared_ledger_is_the_default(shared: None) -> None:
    assert shared_ledger().url.get_secret_value() == "sqlite:////data/all.sqlite3"
    NotificationLedger.delete("of-all-shops")
    try:
        assert shared_ledger() == NotificationLedger()
    finally:
        NotificationLedger().save("of-all-shops")


@pytest.mark.parametrize("validate", [True, False])
def test_an_invalid_saved_block_is_named(validate: bool) -> None:
    EmailTemplate.model_construct(subject="{{ oder.order_name }}").save("edited", overwrite=True)
    with pytest.raises(InvalidInput, match="tracktor-email-template/edited has an invalid value"):
        find_block(EmailTemplate, "edited", validate=validate)
    EmailTemplate.delete("edited")  # or tests that load all templates fail


def test_an_unreadable_response_does_not_mean_a_missing_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise ValueError("Expecting value: line 1 column 1 (char 0)")

    monkeypatch.setattr(NotificationLedger, "load", unreadable)
    with pytest.raises(ValueError, match="Expecting value"):
        find_block(NotificationLedger, "tracktor")


def test_a_saved_order_file_can_be_loaded_and_read() -> None:
    fsspec.filesystem("memory").pipe("/saved.csv", b"Order\n5001\n")
    options = '{"skip_instance_cache": false}'
    OrderFile(path="memory://saved.csv", column="Order", storage_options=options).save("export")
    loaded = OrderFile.load("export")
    assert isinstance(loaded, OrderFile)
    assert loaded.storage_options.get_secret_value() == options
    assert list(loaded.find_orders().order_ids) == [5001]


LOAD_AND_REGISTER = """
import runpy, sys
from prefect.blocks.core import Block
print(Block.load("tracktor-order-file/found").path)
sys.argv = ["prefect", "block", "register", "-m", "prefect_tracktor"]
runpy.run_module("prefect", run_name="__main__")
"""


def test_a_new_process_loads_and_registers_all_blocks() -> None:
    OrderFile(path="all.csv").save("found", overwrite=True)
    run = subprocess.run(
        [sys.executable, "-c", LOAD_AND_REGISTER],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())},
    )
    # the process has imported nothing of this package
    assert run.stdout.startswith("all.csv\n")
    assert "Successfully registered 12 blocks" in run.stdout

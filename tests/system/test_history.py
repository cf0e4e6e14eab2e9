"""The ledger's history in Prefect's UI."""

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_tracktor import NotificationLedger
from prefect_tracktor.history import publish_history
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState


@pytest.mark.usefixtures("prefect_api")
def test_publish_history_shows_the_newest_notices_of_an_account(tmp_path: Path) -> None:
    ledger = NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    for order_id, shop in ((1, "oslo"), (2, "rome"), (3, "oslo"), (4, "oslo")):
        key = NoticeKey(shop, order_id, 7, "exception:expired")
        ledger.complete([key], NoticeState.SENT, run=f"run {order_id}")
    ledger.claim([NoticeKey("oslo", 5, 7, "status:delivered")], run="killed")
    publish_history(ledger, account="oslo", limit=3)
    with get_client(sync_client=True) as client:
        [artifact] = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["ledger-history-oslo"])),
            sort=ArtifactSort.CREATED_DESC,
        )
    assert "The newest 3 notices" in (artifact.description or "")
    rows = json.loads(str(artifact.data))
    assert [(row["Order id"], row["State"], row["Run"]) for row in rows] == [
        (5, "claimed", "killed"),
        (4, "sent", "run 4"),
        (3, "sent", "run 3"),
    ]
    assert rows[0]["Completed at"] == ""
    assert rows[1]["Completed at"].endswith(" UTC")

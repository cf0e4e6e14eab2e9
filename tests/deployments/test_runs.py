"""Runs that are started at the server, and done by the process that serves.

Those that a worker does, with the wheel and no checkout, are seen in `.ci/deploy_to_a_worker.py`.
"""

from pathlib import Path

import pytest

from prefect_tracktor.sandbox import MailServer
from tests.deployments.conftest import Server, ended, serving

MAIL = "E-mail expired exceptions/daily"

pytestmark = pytest.mark.usefixtures("no_deployments")


def test_a_served_deployment_runs_when_it_is_triggered(
    open_for_business: list[str], server: Server, mail: MailServer, tmp_path: Path
) -> None:
    with serving("--only", "expired_exceptions", folder=tmp_path):
        made = server[MAIL]
        assert not made.paused
        run = server.client.create_flow_run_from_deployment(made.id)
        assert ended(server.client, run.id).is_completed()
    assert server[MAIL].paused
    assert sorted(received.recipients[0] for received in mail.messages) == open_for_business

"""Runs that are started on the server, and executed by the serving process.

`.ci/deploy_to_a_worker.py` tests runs of a worker that has only the wheel.
"""

from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from prefect_tracktor.sandbox import Faults, MailServer, Sandbox
from tests.support.programs import waiting
from tests.system.deployments.conftest import (
    Server,
    execute,
    press_ctrl_c,
    serving,
    terminate,
    terminate_all,
)

MAIL = "Email expired exceptions/email-expired-exceptions"

pytestmark = pytest.mark.usefixtures("no_deployments")


def test_an_interrupted_run_restarts_when_its_flow_is_served_again(
    customers_to_email: list[str],
    server: Server,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path: Path,
) -> None:
    tracktor.faults = Faults(latency_seconds=60)
    run: FlowRun | None = None
    for end in (terminate, terminate_all, press_ctrl_c):
        tracktor.reset_calls()
        with serving("--only", "expired_exceptions", folder=tmp_path, end=end):
            assert not server[MAIL].paused
            # one run, which is started again each time
            run = run or server.client.create_flow_run_from_deployment(server[MAIL].id)
            for attempt in waiting():
                with attempt:
                    assert tracktor.calls
        interrupted = server.client.read_flow_run(run.id).state
        assert interrupted is not None
        assert interrupted.is_scheduled()
        assert server[MAIL].paused
        (tmp_path / "served.log").unlink()
    assert run is not None
    tracktor.faults = Faults()
    # as the next serving process does; the second and third one have started it again
    assert execute(run.id).is_completed()
    assert sorted(received.recipients[0] for received in mail.messages) == customers_to_email

"""A worker of a process pool, in an empty directory, carries out what was deployed."""

from pathlib import Path

from flows.__main__ import main
from prefect_tracktor.sandbox import MailServer, Sandbox
from tests.deployments.conftest import Server, ended, running

MAIL = "E-mail expired exceptions/daily"


def test_a_run_is_done_by_a_worker_that_has_no_checkout(
    environment: None,
    no_deployments: None,
    pool: str,
    server: Server,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path: Path,
) -> None:
    assert main(["deploy", "--work-pool", pool, "--only", "expired_exceptions"]) == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    worker = ("prefect", "worker", "start", "--pool", pool, "--type", "process")
    with running(*worker, cwd=empty, says="started!", log=tmp_path / "worker.log"):
        run = server.client.create_flow_run_from_deployment(server[MAIL].id)
        assert ended(server.client, run.id).is_completed()
    recipients = [received.recipients[0] for received in mail.messages]
    assert sorted(recipients) == sorted(tracktor.shop.customers_to_write_to().values())

"""From an empty directory to a run, with nothing but the wheel: init, blocks, deploy, serve.

A worker elsewhere does what was deployed; then a scheduled run is seen to start by itself.

    .venv/bin/python .ci/deploy_to_a_worker.py PYTHON-OF-THE-WHEELS-ENVIRONMENT
"""

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import stamina
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from tests.support.programs import prefect_server, running, waiting

NAME = "Email expired exceptions/email-expired-exceptions"


def run(command: Path, *arguments: str, cwd: Path, environment: dict[str, str]) -> str:
    """Run a command of the wheel's environment, and give what it says."""
    words = [command, *arguments]
    done = subprocess.run(
        words, cwd=cwd, env=environment, check=False, timeout=300, stdout=subprocess.PIPE, text=True
    )
    sys.stdout.write(done.stdout)
    assert not done.returncode, f"{' '.join(map(str, words))} ended with {done.returncode}"
    return done.stdout


def the_run_of_the_schedule(client: SyncPrefectClient) -> FlowRun:
    """Bring the schedule forward, and wait for a run that nobody started."""
    deployment = client.read_deployment_by_name(NAME)
    [schedule] = deployment.schedules
    # what somebody may do in the UI, so that the test need not wait for the morning
    soon = IntervalSchedule(interval=timedelta(seconds=5))
    client.update_deployment_schedule(deployment.id, schedule.id, schedule=soon)
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    for attempt in waiting():
        with attempt:
            runs = client.read_flow_runs(flow_run_filter=mine)
            done = [run for run in runs if run.auto_scheduled and run.state_type == "COMPLETED"]
            assert done
    return done[0]


def main(wheel: str, folder: Path) -> None:
    """Go all the way, or raise an error."""
    (empty := folder / "empty").mkdir()
    (project := folder / "project").mkdir()
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name in ("flows", "blocks"):
        find = [wheel, "-c", f"import importlib.util as u; assert not u.find_spec('{name}')"]
        subprocess.run(find, cwd=empty, env=alone, check=True)
    tracktor_command, prefect = (
        partial(run, Path(wheel).parent / name, cwd=project)
        for name in ("prefect-tracktor", "prefect")
    )

    with (
        Sandbox(Shop(orders=60, expired=5)) as tracktor,
        MailServer() as mail,
        prefect_server(folder, {}) as url,
        temporary_settings(updates={PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        settings = {
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        tracktor.shop.write_orders_csv(folder / "orders.csv")
        variables = settings | {
            "TRACKTOR_UUID": tracktor.uuid,
            "TRACKTOR_API_KEY": tracktor.api_key,
            "TRACKTOR_BASE_URL": tracktor.base_url,
            "TRACKTOR_ORDERS": str(folder / "orders.csv"),
            "TRACKTOR_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
            "TRACKTOR_SENDER": "Shop <orders@shop.example>",
            "SMTP_HOST": mail.host,
            "SMTP_PORT": str(mail.port),
            "SMTP_SECURITY": "none",
        }
        environment = alone | variables
        prefect("block", "register", "-m", "prefect_tracktor", environment=environment)
        tracktor_command("blocks", environment=environment)
        prefect("work-pool", "create", "--type", "process", "p", environment=environment)
        deploy = ("deploy", "--work-pool", "p")
        said = tracktor_command(*deploy, "--dry-run", environment=environment)
        assert "these are the built-in deployments" in said
        tracktor_command("init", environment=environment)
        said = tracktor_command(*deploy, environment=environment)
        assert "built-in" not in said
        apart = alone | settings | {"PREFECT_HOME": str(folder / "home-of-the-worker")}
        worker = ["-m", "prefect", "worker", "start", "--pool", "p"]
        log = folder / "worker.log"
        with running(*worker, python=wheel, log=log, cwd=empty, environment=apart):
            prefect("deployment", "run", NAME, "--watch", environment=environment)
            assert not mail.messages, "a new mailer is in dry run"
            tracktor_command("blocks", environment=environment | {"TRACKTOR_MODE": "live"})
            prefect("deployment", "run", NAME, "--watch", environment=environment)
        assert len(mail.messages) == 5, mail.messages
        print("a worker with nothing but the wheel has written to the five customers")

        serve = ["-m", "flows", "serve", "--only", "expired_exceptions"]
        log = folder / "serve.log"
        with running(
            *serve,
            python=wheel,
            log=log,
            says="being served",
            cwd=project,
            environment=environment,
        ):
            done = the_run_of_the_schedule(client)
        assert len(mail.messages) == 5, "somebody was written to twice"
        print(f"the scheduled run {done.name} has started by itself; nobody was written to again")


if __name__ == "__main__":
    stamina.instrumentation.set_on_retry_hooks([])  # that something is waited for is no news
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1], Path(scratch))

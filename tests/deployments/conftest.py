"""A shop with all its blocks made, and what Prefect's server keeps of its deployments."""

from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse

from blocks.__main__ import main as make_blocks
from flows import deploying, shops
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop

SENDER = "Sandbox Shop <orders@sandbox-shop.example>"
# none of these may be kept anywhere but in block documents
SECRETS = {"SMTP_PASSWORD": "pa55-word", "TRACKTOR_WEBHOOK_ADDRESS": "https://shop.example/s3cret"}


@pytest.fixture
def client(prefect_api: None) -> Iterator[SyncPrefectClient]:
    """Prefect's API, with no deployment of an earlier test."""
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        yield client


@pytest.fixture(scope="module")
def tracktor() -> Iterator[Sandbox]:
    """A Tracktor for all tests of a module, as the blocks that refer to it are made once."""
    with Sandbox(Shop(orders=60, expired=5)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def blocks(
    prefect_api: None,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The block documents, as `python -m blocks` makes them."""
    folder = tmp_path_factory.mktemp("shop")
    tracktor.shop.write_orders_csv(folder / "orders.csv")
    variables = SECRETS | {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(folder / "orders.csv"),
        "TRACKTOR_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
        "SMTP_SERVER": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_USERNAME": "shop",
        "TRACKTOR_STATUSES": str(folder / "plan.csv"),
    }
    assert make_blocks(variables) == 0


@pytest.fixture
def environment(
    client: SyncPrefectClient, blocks: None, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """The blocks made, and the variables set that `python -m flows` wants."""
    for name in ("DRY_RUN", "NOTIFY", "TIMEZONE", "ANNOUNCE_EXCEPTIONS"):
        monkeypatch.delenv(f"TRACKTOR_{name}", raising=False)
    monkeypatch.setenv("TRACKTOR_SENDER", SENDER)
    return {"TRACKTOR_SENDER": SENDER}


class Server:
    """What the server keeps, by the deployments' names."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client

    def __getitem__(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(name)

    def names(self) -> list[str]:
        flows = {flow.id: flow.name for flow in self.client.read_flows()}
        found = self.client.read_deployments()
        return sorted(f"{flows[made.flow_id]}/{made.name}" for made in found)

    def records(self) -> str:
        """All that it keeps of deployments, runs and automations, as it would tell anybody."""
        return "".join(
            httpx.post(f"{self.client.api_url}{kind}/filter", json={}).raise_for_status().text
            for kind in ("deployments", "flow_runs", "automations", "flows", "work_pools")
        )


@pytest.fixture
def server(client: SyncPrefectClient) -> Server:
    return Server(client)


@pytest.fixture
def pool(client: SyncPrefectClient) -> str:
    """A process work pool."""
    make_pool(client, "here", "process")
    return "here"


def make_pool(client: SyncPrefectClient, name: str, kind: str) -> None:
    """Make a work pool with the template that Prefect knows for its type."""
    known = httpx.get(f"{client.api_url}collections/views/aggregate-worker-metadata").json()
    workers = {kind: worker for package in known.values() for kind, worker in package.items()}
    template = workers[kind]["default_base_job_configuration"]
    pool = WorkPoolCreate(name=name, type=kind, base_job_template=template)
    client.create_work_pool(pool, overwrite=True)


@pytest.fixture
def shops_are(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put other rows into `flows/shops.py`."""

    def put(*rows: deploying.Shop) -> None:
        monkeypatch.setattr(shops, "shops", lambda: rows)

    return put

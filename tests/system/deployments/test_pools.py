"""Work pools: each type takes images and packages in its own way, or refuses them."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from packaging.requirements import Requirement
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.deployments.runner import RunnerDeployment
from pydantic import SecretStr

from blocks.documents import DOCUMENTS
from flows import watch
from prefect_tracktor import CompletedOrders, HttpChannel, NotificationLedger, NotificationRule
from prefect_tracktor.cli import main
from prefect_tracktor.deploy.work_pools import Infrastructure, infrastructure_of, keeps_files
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows import WatchOptions, announce_exceptions
from prefect_tracktor.setup.blocks import save_blocks
from tests.system.deployments.conftest import SECRETS, VARIABLES, Server, make_pool

WHEEL = "prefect-tracktor[postgresql]@https://files.shop.example/prefect_tracktor-0.1.0-py3-none-any.whl"
PACKAGES = [WHEEL, "psycopg"]
STALLED = NotificationRule(name="late", when=["stalled"])


@cache
def pool_of(client: SyncPrefectClient, kind: str) -> str:
    """Create a pool of a type, once."""
    make_pool(client, f"a-{kind}", kind)
    return f"a-{kind}"


def of_pool(
    client: SyncPrefectClient, kind: str, image: str = "", packages: Sequence[str] = ()
) -> Infrastructure:
    return infrastructure_of(client, pool_of(client, kind), image, packages)


@pytest.mark.parametrize(
    "kind",
    [
        "docker",
        "kubernetes",
        "ecs",
        "azure-container-instance",
        "cloud-run",
        "cloud-run-v2",
        "vertex-ai",
    ],
)
def test_a_container_pool_takes_an_image_and_packages(client: SyncPrefectClient, kind: str) -> None:
    assert of_pool(client, kind, "registry.example/shop:1", PACKAGES).job_variables == {
        "image": "registry.example/shop:1",
        "env": {"EXTRA_PIP_PACKAGES": f"{WHEEL} psycopg"},
    }


# as the documentation of Prefect Cloud describes it; this server has no such template
MANAGED = {
    "job_configuration": {"env": "{{ env }}", "pip_packages": "{{ pip_packages }}"},
    "variables": {
        "properties": {
            "image": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "pip_packages": {"type": "array", "items": {"type": "string"}},
        }
    },
}


@pytest.fixture
def managed(client: SyncPrefectClient) -> str:
    pool = WorkPoolCreate(name="managed", type="prefect:managed", base_job_template=MANAGED)
    client.create_work_pool(pool, overwrite=True)
    return pool.name


def test_a_managed_pool_takes_packages_as_a_job_variable(
    client: SyncPrefectClient, managed: str
) -> None:
    infrastructure = infrastructure_of(client, managed, "", PACKAGES)
    assert infrastructure.job_variables == {"pip_packages": PACKAGES}
    assert not infrastructure.keeps_files
    assert list(infrastructure.remarks) == [], "it has no worker to start"


@pytest.mark.usefixtures("environment", "no_deployments")
def test_a_managed_pool_takes_deployments_only_with_a_ledger_in_a_database(
    client: SyncPrefectClient,
    server: Server,
    managed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # two deployments are enough
    monkeypatch.setattr(watch, "PARTS", {"rules": [STALLED], "announce": {"exception:all"}})
    deploy = ["deploy", "--work-pool", managed, "--only", "watch", "reconcile"]
    assert main([*deploy, "--pip-package", WHEEL]) == 2
    assert "REFUSED    Watch shop/watch-shop: its ledger" in capsys.readouterr().out
    url = {"TRACKTOR_LEDGER_URL": "postgresql://shop:pa55-of-the-ledger@db.example/ledger"}
    try:
        assert save_blocks(VARIABLES | url, DOCUMENTS) == 0
        assert main([*deploy, "--pip-package", WHEEL]) == 0
    finally:
        NotificationLedger().save("tracktor", overwrite=True)
        CompletedOrders().save("tracktor", overwrite=True)
    assert server.names() == [
        "Reconcile manual statuses/reconcile-manual-statuses",
        "Watch shop/watch-shop",
    ]
    made = server["Watch shop/watch-shop"]
    assert (made.work_pool_name, made.pull_steps) == (managed, [])
    assert made.job_variables == {"pip_packages": [WHEEL]}
    stored = server.records("deployments", "automations", "work_pools")
    secrets = [*SECRETS.values(), "pa55-of-the-ledger"]
    assert not [secret for secret in secrets if secret in stored]


def test_a_process_pool_takes_no_image_and_no_packages(client: SyncPrefectClient) -> None:
    assert of_pool(client, "process").job_variables == {}
    with pytest.raises(InvalidInput, match=r"of type process uses no images: leave out --image"):
        of_pool(client, "process", "registry.example/shop:1")
    with pytest.raises(InvalidInput, match=r"installs no packages.*pip install psycopg"):
        of_pool(client, "process", packages=["psycopg"])


def test_deploy_names_a_missing_image_and_worker(client: SyncPrefectClient) -> None:
    without, worker = of_pool(client, "docker").remarks
    assert "image that the work pool 'a-docker' uses must have prefect-tracktor" in without
    assert "prefect worker start --pool 'a-docker'" in worker
    assert of_pool(client, "docker", "registry.example/shop:1").remarks == [worker]
    assert of_pool(client, "process").remarks == [worker.replace("docker", "process")]


def test_the_error_for_a_missing_pool_names_the_command_to_create_it(
    client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "--work-pool", "nowhere"]) == 2
    output = capsys.readouterr().err
    assert "there is no work pool 'nowhere'" in output
    assert "prefect work-pool create --type process nowhere" in output


@pytest.mark.parametrize("package", ["", "psycopg pandas", "prefect-tracktor >= 0.1"])
def test_a_package_with_blanks_is_refused(client: SyncPrefectClient, package: str) -> None:
    with pytest.raises(InvalidInput, match="without blanks"):
        of_pool(client, "docker", packages=[package])


@pytest.mark.parametrize(
    "package",
    [
        "prefect-tracktor",
        "prefect-tracktor[postgresql]>=0.1",
        "Prefect_Tracktor==0.1",
        "prefect.tracktor",
    ],
)
@pytest.mark.parametrize("kind", ["docker", "process"])
def test_prefect_tracktor_is_refused_without_an_address(
    client: SyncPrefectClient, kind: str, package: str
) -> None:
    with pytest.raises(
        InvalidInput, match=r"published on no package index.*@https://.*@git\+https://"
    ):
        of_pool(client, kind, packages=[package])


@pytest.mark.parametrize(
    "package",
    [
        WHEEL,
        "prefect-tracktor[postgresql]@git+https://git.shop.example/prefect-tracktor@v0.1.0",
        "https://files.shop.example/prefect_tracktor-0.1.0-py3-none-any.whl",
        "/opt/prefect_tracktor-0.1.0-py3-none-any.whl",
        "tracktor-of-somebody-else",
    ],
)
def test_a_package_with_an_address_is_accepted(client: SyncPrefectClient, package: str) -> None:
    expected = {"env": {"EXTRA_PIP_PACKAGES": package}}
    assert of_pool(client, "docker", packages=[package]).job_variables == expected


def test_the_examples_in_the_package_error_are_accepted(client: SyncPrefectClient) -> None:
    with pytest.raises(InvalidInput) as refusal:
        of_pool(client, "docker", packages=["prefect-tracktor"])
    shown = re.findall(r"prefect-tracktor\S*@\w[^,\s]+", str(refusal.value))
    assert [Requirement(package).extras for package in shown] == [{"postgresql"}] * 2
    assert of_pool(client, "docker", packages=shown).job_variables["env"]


def test_a_package_address_with_a_password_is_refused_and_not_shown(
    client: SyncPrefectClient,
) -> None:
    with pytest.raises(InvalidInput, match="plain text") as refusal:
        of_pool(client, "docker", packages=["shop@git+https://me:t0ken@git.example/shop.git"])
    assert "t0ken" not in str(refusal.value)
    over_ssh = "shop@git+ssh://git@git.example/shop.git"
    expected = {"env": {"EXTRA_PIP_PACKAGES": over_ssh}}
    assert of_pool(client, "docker", packages=[over_ssh]).job_variables == expected


def test_job_variables_set_by_the_user_are_kept() -> None:
    ours = Infrastructure("docker", {"image": "new", "env": {"EXTRA_PIP_PACKAGES": "psycopg"}})
    existing = {"image": "old", "mem_limit": "2g", "env": {"TZ": "UTC", "EXTRA_PIP_PACKAGES": "x"}}
    assert ours.merged_job_variables(existing) == {
        "image": "new",
        "mem_limit": "2g",
        "env": {"TZ": "UTC", "EXTRA_PIP_PACKAGES": "psycopg"},
    }
    assert Infrastructure("docker").merged_job_variables(existing) == {
        "mem_limit": "2g",
        "env": {"TZ": "UTC"},
    }


@cache
def blocks_of(url: str) -> tuple[NotificationLedger, CompletedOrders]:
    """A ledger and the completed orders at an address, saved once."""
    ledger, completed = NotificationLedger(url=url), CompletedOrders(url=url)
    for block in (ledger, completed):
        block.save(re.sub(r"\W+", "-", url).strip("-") or "in-file", overwrite=True)
    return ledger, completed


def with_ledger(url: str) -> RunnerDeployment:
    ledger, completed = blocks_of(url)
    parameters = {"ledger": ledger, "reading": {"completed_orders": completed}}
    deployment: Any = announce_exceptions.to_deployment("hourly", parameters=parameters)
    assert isinstance(deployment, RunnerDeployment)
    return deployment


def rules() -> list[NotificationRule]:
    channel = HttpChannel(address=SecretStr("https://sms.example"), body="{}")
    channel.save("of-pools", overwrite=True)
    return [STALLED.model_copy(update={"channel": channel})]


@pytest.mark.parametrize(
    "parameters",
    [
        lambda ledger: {"rules": rules(), "ledger": ledger},
        lambda ledger: {"rules": rules(), "options": {"ledger": ledger}},
        lambda ledger: {"digest": {}, "options": WatchOptions(ledger=ledger)},
    ],
)
def test_a_sqlite_ledger_is_refused_in_every_parameter(
    client: SyncPrefectClient, parameters: Callable[[NotificationLedger], dict[str, Any]]
) -> None:
    infrastructure = of_pool(client, "docker")
    for url, is_refused in (("", True), ("postgresql://host/ledger", False)):
        deployment = with_ledger(url)
        deployment.parameters = parameters(deployment.parameters["ledger"])
        assert bool(infrastructure.refusal_of(deployment)) is is_refused


def test_a_deployment_without_a_ledger_is_checked_with_the_shared_one(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "of-nobody")
    deployment = with_ledger("postgresql://host/ledger")
    deployment.parameters = {"rules": rules()}
    assert "discarded after each run" in of_pool(client, "docker").refusal_of(deployment)


DISCARDING = ["docker", "kubernetes", "ecs", "azure-container-instance", "cloud-run-v2"]


@pytest.mark.parametrize("kind", [*DISCARDING, "cloud-run", "vertex-ai"])
def test_a_sqlite_ledger_is_refused_in_pools_that_discard_files(
    client: SyncPrefectClient, kind: str
) -> None:
    infrastructure = of_pool(client, kind)
    for url in ("", "sqlite:////data/ledger.sqlite3"):
        in_file = with_ledger(url)
        refusal = infrastructure.refusal_of(in_file)
        assert "discarded after each run" in refusal
        assert "TRACKTOR_LEDGER_URL" in refusal
        assert "reads all orders" in "".join(infrastructure.remarks_on([in_file]))
    shared = with_ledger("postgresql://host/ledger")
    assert infrastructure.refusal_of(shared) == ""
    assert not list(infrastructure.remarks_on([shared]))


@pytest.mark.parametrize("kind", ["modal:push", "prefect:managed", "somebodys-own"])
def test_pools_without_workers_and_of_unknown_types_discard_files(kind: str) -> None:
    pool = WorkPool(name="away", type=kind, default_queue_id=uuid4(), base_job_template={})
    assert not keeps_files(pool)


def test_a_process_pool_keeps_files(client: SyncPrefectClient) -> None:
    assert of_pool(client, "process").refusal_of(with_ledger("")) == ""
    assert Infrastructure().refusal_of(with_ledger("")) == ""


@pytest.mark.usefixtures("environment", "no_deployments")
def test_refused_deployments_are_named_and_the_others_deployed(
    client: SyncPrefectClient, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pool(client, "containers", "docker")
    assert main(["deploy", "--work-pool", "containers", "--image", "shop:1"]) == 2
    output = capsys.readouterr().out
    assert (
        "REFUSED    Email expired exceptions/email-expired-exceptions: its ledger is a SQLite file"
        in output
    )
    assert "left over" not in output
    assert server.names() == [
        "Reconcile manual statuses/reconcile-manual-statuses",
        "Sync webhooks/sync-webhooks",
    ]

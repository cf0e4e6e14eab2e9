"""Work pools: image, packages and ledger, as each type of pool takes them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkPool, WorkPoolStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from prefect_tracktor import CompletedOrders, Mailer, NotificationLedger
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.saved_blocks import shared_ledger

_OURS = frozenset({"image", "pip_packages"})
# parameters with which a flow remembers whom it told, also without a mailer
_TELLS = frozenset({"rules", "digest", "announce"})
# what the entrypoint of Prefect's own images installs before the run
_EXTRA = "EXTRA_PIP_PACKAGES"
_SECRET_IN_ADDRESS = re.compile(r"://(?!git@)[^/\s]*@")
_US = canonicalize_name("prefect-tracktor")
_AS_A_WHEEL = (
    "prefect-tracktor[postgresql]@https://files.your-shop.example/"
    "prefect_tracktor-0.1.0-py3-none-any.whl"
)
_AS_A_TAG = "prefect-tracktor[postgresql]@git+https://git.your-shop.example/prefect-tracktor@v0.1.0"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of deployments are carried out."""

    work_pool: str = ""
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    keeps_files: bool = True

    def refusal_of(self, deployment: RunnerDeployment) -> str:
        """Why a deployment must not run here: a ledger that is new in each run prevents nothing."""
        if self.keeps_files or not any(led.is_file for led in _ledgers(deployment.parameters)):
            return ""
        return (
            f"its ledger is a SQLite file, and the machines of the work pool {self.work_pool!r} are"
            " discarded after each run: every run would email all these customers again. Set"
            " TRACKTOR_LEDGER_URL to a PostgreSQL, and run prefect-tracktor blocks"
        )

    def remarks_on(self, deployments: Sequence[RunnerDeployment]) -> Iterator[str]:
        """Settings that have no effect here."""
        reading = [made.parameters.get("reading", {}) for made in deployments]
        completed = [options.get("completed_orders") for options in reading]
        if not self.keeps_files and any(
            isinstance(block, CompletedOrders) and block.is_file for block in completed
        ):
            yield (
                "Completed orders are kept in a SQLite file, which each run discards: every run"
                " reads all orders. To keep them, set TRACKTOR_LEDGER_URL to a PostgreSQL."
            )

    def job_variables_beside(self, others: Mapping[str, Any]) -> dict[str, Any]:
        """The job variables, merged with those that were set elsewhere."""
        theirs = {name: value for name, value in others.items() if name not in _OURS}
        environment = {
            name: value for name, value in theirs.pop("env", {}).items() if name != _EXTRA
        } | self.job_variables.get("env", {})
        kept = {"env": environment} if environment else {}
        return theirs | dict(self.job_variables) | kept


def place_in(
    client: SyncPrefectClient, work_pool: str, image: str, packages: Sequence[str]
) -> Place:
    """A place in an existing work pool, with the job variables that its type takes."""
    try:
        pool = client.read_work_pool(work_pool)
    except ObjectNotFound:
        raise InvalidInput(
            f"there is no work pool {work_pool!r}; create it, such as with"
            f" prefect work-pool create --type process {work_pool}"
        ) from None
    if image and "image" not in _variables(pool):
        raise InvalidInput(
            f"the work pool {pool.name!r} of type {pool.type} uses no images: leave out --image"
        )
    job_variables: dict[str, Any] = {"image": image} if image else {}
    if packages:
        job_variables |= _installed(pool, packages)
    remarks = list(_remarks(pool, job_variables))
    return Place(work_pool, job_variables, remarks, keeps_files=keeps_files(pool))


def keeps_files(pool: WorkPool) -> bool:
    """Whether files outlast a run: only a process runs on its worker's own machine."""
    return pool.type == "process" and _OURS.isdisjoint(_variables(pool))


def _ledgers(parameters: Mapping[str, Any]) -> list[NotificationLedger]:
    found = [*_ledgers_in(parameters)]
    tells = not _TELLS.isdisjoint(name for name, value in parameters.items() if value)
    return found if found or not tells else [shared_ledger()]


def _ledgers_in(value: Any) -> Iterator[NotificationLedger]:
    if isinstance(value, NotificationLedger):
        yield value
    elif isinstance(value, Mailer):
        yield value.ledger or shared_ledger()
    elif isinstance(value, Mapping | BaseModel):
        for part in dict(value).values():
            yield from _ledgers_in(part)


def _remarks(pool: WorkPool, job_variables: Mapping[str, Any]) -> Iterator[str]:
    if "image" in _variables(pool) and not job_variables:
        yield (
            "Neither --image nor --pip-package was given: the image that the work pool"
            f" {pool.name!r} uses must have prefect-tracktor in it."
        )
    has_workers = not (pool.is_push_pool or pool.is_managed_pool)
    if has_workers and pool.status is not WorkPoolStatus.READY:
        yield f"No worker is there yet to run them: prefect worker start --pool '{pool.name}'"


def _installed(pool: WorkPool, packages: Sequence[str]) -> dict[str, Any]:
    for package in packages:
        _check(package)
    variables = _variables(pool)
    if "pip_packages" in variables:  # Prefect Managed
        return {"pip_packages": list(packages)}
    if {"image", "env"} <= variables.keys():
        return {"env": {_EXTRA: " ".join(packages)}}
    raise InvalidInput(
        f"the work pool {pool.name!r} of type {pool.type} installs no packages: leave out"
        " --pip-package, and install them where its worker runs, such as pip install"
        f" {' '.join(packages)}"
    )


def _check(package: str) -> None:
    if not package or any(character.isspace() for character in package):
        raise InvalidInput(
            f"--pip-package {package!r}: write one package without blanks, such as {_AS_A_WHEEL};"
            " several by giving the option again"
        )
    if _SECRET_IN_ADDRESS.search(package):
        raise InvalidInput(
            "--pip-package: the address has a user or a password in it, which Prefect would keep in"
            " plain text; put the package into an image instead"
        )
    if _is_ours_by_name_alone(package):
        raise InvalidInput(
            f"--pip-package {package!r}: prefect-tracktor is published on no package index, and pip"
            " would install whatever anyone uploads under this name. Give the address of a wheel,"
            f" such as {_AS_A_WHEEL}, or of a tag, such as {_AS_A_TAG}"
        )


def _is_ours_by_name_alone(package: str) -> bool:
    try:
        wanted = Requirement(package)
    except InvalidRequirement:
        return False  # an address or a path
    return canonicalize_name(wanted.name) == _US and not wanted.url


def _variables(pool: WorkPool) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = pool.base_job_template.get("variables", {}).get(
        "properties", {}
    )
    return properties

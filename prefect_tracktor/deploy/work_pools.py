"""Work pools: the image, packages and ledger that each type of pool allows."""

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

_OPTIONS = frozenset({"image", "pip_packages"})
# parameters that make a flow use a ledger, also without a mailer
_USE_A_LEDGER = frozenset({"rules", "digest", "announce"})
# the entrypoint of Prefect's images installs the packages in this variable before each run
_EXTRA_PACKAGES = "EXTRA_PIP_PACKAGES"
_SECRET_IN_ADDRESS = re.compile(r"://(?!git@)[^/\s]*@")
_THIS_PACKAGE = canonicalize_name("prefect-tracktor")
_AS_A_WHEEL = (
    "prefect-tracktor[postgresql]@https://files.your-shop.example/"
    "prefect_tracktor-0.1.0-py3-none-any.whl"
)
_AS_A_TAG = "prefect-tracktor[postgresql]@git+https://git.your-shop.example/prefect-tracktor@v0.1.0"


@dataclass(frozen=True, slots=True)
class Infrastructure:
    """Infrastructure of runs: a work pool with job variables, or else this process."""

    work_pool: str = ""
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    keeps_files: bool = True

    def refusal_of(self, deployment: RunnerDeployment) -> str:
        """Say why a deployment must not run here: each run would start with an empty ledger."""
        ledgers = _ledgers(deployment.parameters)
        if self.keeps_files or not any(ledger.is_file for ledger in ledgers):
            return ""
        return (
            f"its ledger is a SQLite file, and the machines of the work pool {self.work_pool!r} are"
            " discarded after each run: every run would email all these customers again. Set"
            " TRACKTOR_LEDGER_URL to a PostgreSQL, and run prefect-tracktor blocks"
        )

    def remarks_on(self, deployments: Sequence[RunnerDeployment]) -> Iterator[str]:
        """Name the settings that have no effect here."""
        reading = [deployment.parameters.get("reading", {}) for deployment in deployments]
        completed = [options.get("completed_orders") for options in reading]
        if not self.keeps_files and any(
            isinstance(block, CompletedOrders) and block.is_file for block in completed
        ):
            yield (
                "Completed orders are kept in a SQLite file, which each run discards: every run"
                " reads all orders. To keep them, set TRACKTOR_LEDGER_URL to a PostgreSQL."
            )

    def merged_job_variables(self, existing: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the job variables with those that were set elsewhere."""
        kept = {name: value for name, value in existing.items() if name not in _OPTIONS}
        environment = {
            name: value for name, value in kept.pop("env", {}).items() if name != _EXTRA_PACKAGES
        } | self.job_variables.get("env", {})
        merged = kept | dict(self.job_variables)
        return merged | {"env": environment} if environment else merged


def infrastructure_of(
    client: SyncPrefectClient, work_pool: str, image: str, packages: Sequence[str]
) -> Infrastructure:
    """Read a work pool, and express image and packages as the job variables of its type."""
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
        job_variables |= _packages_variables(pool, packages)
    remarks = list(_remarks(pool, job_variables))
    return Infrastructure(work_pool, job_variables, remarks, keeps_files=keeps_files(pool))


def keeps_files(pool: WorkPool) -> bool:
    """Whether files outlast a run: only process pools run on their worker's machine."""
    return pool.type == "process" and _OPTIONS.isdisjoint(_variables(pool))


def _ledgers(parameters: Mapping[str, Any]) -> list[NotificationLedger]:
    ledgers = [*_ledgers_in(parameters)]
    given = {name for name, value in parameters.items() if value}
    return ledgers if ledgers or given.isdisjoint(_USE_A_LEDGER) else [shared_ledger()]


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


def _packages_variables(pool: WorkPool, packages: Sequence[str]) -> dict[str, Any]:
    for package in packages:
        _check_package(package)
    variables = _variables(pool)
    if "pip_packages" in variables:  # Prefect Managed
        return {"pip_packages": list(packages)}
    if {"image", "env"} <= variables.keys():
        return {"env": {_EXTRA_PACKAGES: " ".join(packages)}}
    raise InvalidInput(
        f"the work pool {pool.name!r} of type {pool.type} installs no packages: leave out"
        " --pip-package, and install them where its worker runs, such as pip install"
        f" {' '.join(packages)}"
    )


def _check_package(package: str) -> None:
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
    if _is_this_package_by_name_only(package):
        raise InvalidInput(
            f"--pip-package {package!r}: prefect-tracktor is published on no package index, and pip"
            " would install whatever anyone uploads under this name. Give the address of a wheel,"
            f" such as {_AS_A_WHEEL}, or of a tag, such as {_AS_A_TAG}"
        )


def _is_this_package_by_name_only(package: str) -> bool:
    try:
        requirement = Requirement(package)
    except InvalidRequirement:
        return False  # an address or a path
    return canonicalize_name(requirement.name) == _THIS_PACKAGE and not requirement.url


def _variables(pool: WorkPool) -> Mapping[str, Any]:
    variables = pool.base_job_template.get("variables", {})
    properties: Mapping[str, Any] = variables.get("properties", {})
    return properties

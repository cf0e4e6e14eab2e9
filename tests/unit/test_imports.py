"""A process imports what it uses: not Prefect for a name, not all flows for one."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from prefect import Flow

import prefect_tracktor
from prefect_tracktor import flows, webhooks

PACKAGES = [prefect_tracktor, flows, webhooks]


def imported_by(code: str) -> set[str]:
    """The modules of a new process that has run some code."""
    shown = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", shown], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_the_packages_alone_import_no_prefect() -> None:
    found = imported_by("import prefect_tracktor.flows, prefect_tracktor.webhooks")
    assert "prefect" not in found


@pytest.mark.parametrize(
    ("name", "module"),
    [("export_tracking", "export"), ("notify_customers", "notify"), ("sync_webhooks", "webhooks")],
)
def test_a_flow_is_imported_without_the_others(name: str, module: str) -> None:
    found = imported_by(f"from prefect_tracktor.flows import {name}")
    of_flows = {name for name in found if name.startswith("prefect_tracktor.flows.")}
    assert of_flows == {f"prefect_tracktor.flows.{one}" for one in (module, "decorator")}


def test_the_schema_of_a_run_form_is_made_when_it_is_asked_for() -> None:
    code = "from prefect_tracktor.flows import *\nassert 'parameters' not in vars(watch_shop)"
    assert "prefect_tracktor.flows.watch" in imported_by(code)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.__name__))
def test_type_checkers_are_told_where_each_name_is_from(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text("utf-8"))
    told = {
        name.asname: getattr(import_module(str(found.module)), name.name)
        for found in ast.walk(tree)
        if isinstance(found, ast.ImportFrom)
        for name in found.names
        if name.asname
    }
    assert told == {name: getattr(package, name) for name in package.__all__}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.__name__))
def test_a_name_that_there_is_not_is_an_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mailr'"):
        _ = package.Mailr
    assert set(package.__all__) <= set(dir(package))


def test_no_flow_has_the_name_of_a_module_beside_it_which_would_take_its_place() -> None:
    modules = {path.stem for path in Path(str(flows.__file__)).parent.glob("*.py")}
    assert not modules & set(flows.__all__)
    assert all(isinstance(getattr(flows, name), Flow) for name in flows.__all__ if name.islower())

"""Imports on first use: a process imports only the modules that it needs."""

import ast
import json
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from prefect import Flow

import prefect_tracktor
from prefect_tracktor import flows, webhooks

PACKAGES = [prefect_tracktor, flows, webhooks]
FLOWS = {"export_tracking": "export", "notify_customers": "notify", "sync_webhooks": "webhooks"}
CODE = {
    "packages": "import prefect_tracktor.flows, prefect_tracktor.webhooks",
    "sandbox": "import prefect_tracktor.sandbox.__main__",
    "Prefect": "import prefect",
    **{name: f"from prefect_tracktor.flows import {name}" for name in FLOWS},
    "all": "from prefect_tracktor.flows import *\nassert 'parameters' not in vars(watch_shop)",
}
# in forks, as importing Prefect takes most of the time
IMPORTS = textwrap.dedent("""
    import json, os, sys

    for name, code in json.loads(sys.argv[1]).items():
        if name in ("packages", "Prefect") or not os.fork():
            exec(code)
            print(json.dumps([name, list(sys.modules)]), flush=True)
            if name not in ("packages", "Prefect"):
                os._exit(0)
        else:
            assert os.wait()[1] == 0, name
""")


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """The imported modules after each line of code, by name."""
    command = [sys.executable, "-c", IMPORTS, json.dumps(CODE)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {name: set(modules) for name, modules in map(json.loads, run.stdout.splitlines())}


def test_importing_the_packages_does_not_import_prefect(imported: dict[str, set[str]]) -> None:
    assert "prefect" not in imported["packages"]


def test_the_sandbox_starts_without_prefect(imported: dict[str, set[str]]) -> None:
    assert "prefect" not in imported["sandbox"]


@pytest.mark.parametrize(("name", "module"), FLOWS.items())
def test_importing_a_flow_does_not_import_other_flows(
    name: str, module: str, imported: dict[str, set[str]]
) -> None:
    of_flows = {name for name in imported[name] if name.startswith("prefect_tracktor.flows.")}
    assert of_flows == {f"prefect_tracktor.flows.{one}" for one in (module, "decorator")}


def test_importing_all_flows_makes_no_parameter_schema(
    imported: dict[str, set[str]],
) -> None:
    assert "prefect_tracktor.flows.watch" in imported["all"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.__name__))
def test_the_imports_for_type_checkers_match_the_public_names(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text("utf-8"))
    imports = {
        name.asname: getattr(import_module(str(found.module)), name.name)
        for found in ast.walk(tree)
        if isinstance(found, ast.ImportFrom)
        for name in found.names
        if name.asname
    }
    assert imports == {name: getattr(package, name) for name in package.__all__}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.__name__))
def test_an_unknown_public_name_raises_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mailr'"):
        _ = package.Mailr
    assert set(package.__all__) <= set(dir(package))


def test_no_flow_has_the_name_of_a_module_in_its_package() -> None:
    modules = {path.stem for path in Path(str(flows.__file__)).parent.glob("*.py")}
    assert not modules & set(flows.__all__)
    assert all(isinstance(getattr(flows, name), Flow) for name in flows.__all__ if name.islower())

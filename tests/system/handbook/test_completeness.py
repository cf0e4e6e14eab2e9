"""The handbook covers all public names, and its references exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import Task
from prefect.blocks.core import Block as PrefectBlock
from prefect.flows import Flow

import prefect_tracktor
from prefect_tracktor import TracktorError, events, flows, sandbox, tasks
from prefect_tracktor.cli import app
from prefect_tracktor.deploy.shops import build_functions
from prefect_tracktor.setup.project import modules_of
from tests.support.programs import PROJECT
from tests.system.handbook.pages import PAGES, name_of

REFERENCE = PROJECT / "docs" / "reference"
TROUBLESHOOT = (PROJECT / "docs/how-to/troubleshoot.md").read_text("utf-8")
FLOWS = (REFERENCE / "flows.md").read_text("utf-8")

_DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def documented() -> Iterator[str]:
    """Yield the last parts of the names that the reference's pages document."""
    for page in REFERENCE.glob("*.md"):
        for path, options in _DIRECTIVE.findall(page.read_text("utf-8") + "\n"):
            # members are the last option
            members = re.findall(r"\w+", options.partition("members:")[2])
            yield from members or [path.rpartition(".")[2]]
            if path == "prefect_tracktor.tasks":
                yield from task_names()


def task_names() -> list[str]:
    return [name for name, value in vars(tasks).items() if isinstance(value, Task)]


def public_names() -> list[str]:
    names = [
        *prefect_tracktor.__all__,
        *events.__all__,
        *flows.__all__,
        *(name for name in sandbox.__all__ if not isinstance(getattr(sandbox, name), str)),
        *task_names(),
    ]
    return sorted(set(names))


def test_the_status_table_names_existing_properties() -> None:
    page = (REFERENCE / "conditions.md").read_text("utf-8")
    table = page.partition("## Which status property to use")[2].partition("\nUse these")[0]
    named = re.findall(r"`(parcel|order)\.(\w+)", table)
    assert len(named) > 10
    parcel, order = prefect_tracktor.Fulfillment, prefect_tracktor.Order
    known = {
        "parcel": {*dir(parcel), *parcel.model_fields},
        "order": {*dir(order), *order.model_fields},
    }
    assert [name for kind, name in named if name not in known[kind]] == []
    assert "Since when is it in exception?" in table


def test_the_blocks_page_lists_every_flow_and_block() -> None:
    page = (REFERENCE / "blocks.md").read_text("utf-8")
    table = page.partition("## Which blocks a flow needs")[2].partition("\n## ")[0]
    ready_made = [name for name in flows.__all__ if isinstance(getattr(flows, name), Flow)]
    assert [name for name in ready_made if f"`{name}`" not in table] == []
    blocks = [
        name
        for name in prefect_tracktor.__all__
        if isinstance(kind := getattr(prefect_tracktor, name), type)
        and issubclass(kind, PrefectBlock)
    ]
    assert [name for name in blocks if f"`{name}`" not in table] == []


def errors(family: type[TracktorError] = TracktorError) -> Iterator[str]:
    yield family.__name__
    for child in (kind for kind in family.__subclasses__() if not kind.__name__.startswith("_")):
        yield from errors(child)


def flow_names() -> list[str]:
    return [name for name in flows.__all__ if isinstance(getattr(flows, name), Flow)]


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("name", public_names())
def test_the_reference_has_every_public_name(name: str) -> None:
    assert name in set(documented())


@pytest.mark.parametrize("name", sorted(set(errors())))
def test_the_troubleshooting_page_lists_every_error(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|.+\|.*\|$", TROUBLESHOOT, re.MULTILINE)


@pytest.mark.parametrize("name", flow_names())
def test_every_flow_has_a_how_to_page(name: str) -> None:
    [row] = [line for line in FLOWS.splitlines() if line.startswith(f"| [`{name}`]")]
    found = re.search(r"\]\(\.\./(how-to/[\w-]+\.md)", row)
    assert found
    assert f"`{name}`" in (PROJECT / "docs" / found[1]).read_text("utf-8")
    assert f"| `{name}` |" in (PROJECT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", flow_names())
def test_the_blocks_page_has_a_complete_row_for_each_flow(name: str) -> None:
    page = (REFERENCE / "blocks.md").read_text("utf-8")
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|(?:[^|]*\|){{4}}$", page, re.MULTILINE)


def test_the_reference_shows_the_help_of_every_command() -> None:
    page = (REFERENCE / "commands.md").read_text("utf-8")
    commands = [name for name in app if not name.startswith("-")]
    assert len(commands) >= 7
    missing = [
        c for c in commands if f"<!-- output of: prefect-tracktor {c} --help -->" not in page
    ]
    assert missing == []


def test_the_reference_lists_every_make_target() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    page = (REFERENCE / "commands.md").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    assert [t for t in targets if t != "help" and f"make {t}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_serve_only_existing_deployments(page: Path) -> None:
    for names in re.findall(r"prefect-tracktor serve --only ((?:\w+ ?)+)", page.read_text("utf-8")):
        assert set(names.split()) <= build_functions(modules_of("flows")).keys()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_installs_the_package_by_name_alone(page: Path) -> None:
    by_name = r"(?:pip install|--pip-package)[ '\"`]*prefect-tracktor(?:\[[\w,]*\])?(?!\S*@)"
    assert re.findall(by_name, page.read_text("utf-8")) == []


def test_relative_links_of_the_readme_have_targets() -> None:
    readme = PROJECT / "README.md"
    links = [link for link in _LINK.findall(readme.read_text("utf-8")) if "://" not in link]
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        target = PROJECT / path if path else readme
        assert target.is_file(), link
        if anchor:
            assert anchor in map(anchor_of, _HEADING.findall(target.read_text("utf-8"))), link

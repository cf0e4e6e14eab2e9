"""The pinned versions of `constraints.txt`, with which `make` sets up the project's environment."""

from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def test_all_pinned_versions_support_the_first_release_of_python_3_11() -> None:
    lines = CONSTRAINTS.read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    # other Python versions are tested with other versions of packages
    installed = [
        package
        for package in distributions()
        if package.version in pinned.get(canonicalize_name(package.name), SpecifierSet("==0"))
    ]
    assert len(installed) > len(pins) / 2
    needs = {
        package.name: package.metadata["Requires-Python"]
        for package in installed
        if "Requires-Python" in package.metadata
    }
    # Debian 12, for one, has Python 3.11.2
    assert not {name: it for name, it in needs.items() if not SpecifierSet(it).contains("3.11.0")}

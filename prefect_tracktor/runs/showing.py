"""A run's mode in its name, its tags and its first log line."""

import re
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from coolname.data import config
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from prefect_tracktor.reporting.deployment import deployment_name
from prefect_tracktor.reporting.words import mode_label

# generated names: by Prefect's server such as hospitable-dormouse, with the words of coolname; by
# the run form of its newer UI such as Generic-Skua, and of the older one such as alpha3-gumarcaj-k
_WORDS: Any = config
_KINDS = ("animal", "animal_breed", "animal_legendary")
_ANIMALS = frozenset(word for kind in _KINDS for word in _WORDS[kind]["words"])
_NEWER_FORM = re.compile(
    "(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic"
    "|Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible)-[A-Z].{,5}"
)
_OLDER_FORM = re.compile(
    "(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma"
    r"|tau|upsilon|phi|chi|psi|omega)\d*(-[a-z]+){1,3}"
)


def show_mode(title: str, *modes: str, about: str = "") -> None:
    """Show a run's mode in its name, unless a person typed it, its tags and its log."""
    mode = mode_label(*modes).lower()
    get_run_logger().info("%s: %s.", title, mode)
    run_id, name = flow_run.get_id(), flow_run.get_name() or ""
    if not run_id:
        return
    job = flow_run.get_flow_name() or title
    # the part of the deployment's name before the flow's: the shop, or the user's own name
    shop = deployment_name().removesuffix(job.lower().replace(" ", "-")).rstrip("-")
    # the mode first, as a phone shows about twenty characters
    new_name = (
        f"{mode.capitalize()}: {', '.join(filter(None, [job, shop, about]))}"
        if _is_made_up(name)
        else name
    )
    tags = sorted({*flow_run.get_tags(), *mode.split(", ")})
    # the run goes on without the name
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as prefect:
        prefect.update_flow_run(UUID(run_id), name=new_name, tags=tags)


def _is_made_up(name: str) -> bool:
    first, _, last = name.partition("-")
    by_the_server = first.isalpha() and first.islower() and last in _ANIMALS
    return by_the_server or any(form.fullmatch(name) for form in (_NEWER_FORM, _OLDER_FORM))

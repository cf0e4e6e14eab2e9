"""CPU time of imports in new processes, as ratios to `import prefect`.

Run it with `python -m benchmarks.imports`. The last figures are those of a run, whose process
imports Prefect's engine, the flow of its entrypoint and all block types of this package.
"""

import os
import statistics
import subprocess
import sys

ROUNDS = 5
FLOW = """
import prefect.flow_engine
from prefect.flows import load_flow_from_entrypoint
load_flow_from_entrypoint("{}")
"""
# Prefect imports it for a run with saved blocks
BLOCKS = "import prefect_tracktor.collection"
IMPORTS = {
    "import prefect": "import prefect",
    "a plain flow": "from prefect import flow\nflow(name='plain')(lambda: None)",
    "import prefect_tracktor": "import prefect, prefect_tracktor",
    "import prefect_tracktor.flows": "import prefect, prefect_tracktor.flows",
    "every name of it": "from prefect_tracktor.flows import *",
    "email_expired_exceptions": "from prefect_tracktor.flows import email_expired_exceptions",
    "reconcile_manual_statuses": "from prefect_tracktor.flows import reconcile_manual_statuses",
    "sync_webhooks": "from prefect_tracktor.flows import sync_webhooks",
    "a run of a plain flow": FLOW.format("benchmarks.imports.plain"),
    "a run of email_expired_exceptions": (
        FLOW.format("prefect_tracktor.flows.email_expired_exceptions") + BLOCKS
    ),
    "a run of sync_webhooks": FLOW.format("prefect_tracktor.flows.sync_webhooks") + BLOCKS,
}


def __getattr__(name: str) -> object:
    if name != "plain":
        raise AttributeError(name)
    from prefect import flow

    return flow(name="plain")(lambda: None)


def cpu_seconds(code: str) -> float:
    """Run code in a new process, and return its CPU time."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as for users
    timed = f"import time\nstart = time.process_time()\n{code}\nprint(time.process_time() - start)"
    run = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", timed],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return float(run.stdout.split()[-1])


def main() -> None:
    """Print the median of each import, in seconds and as a ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(ROUNDS + 1):
        for name, code in IMPORTS.items():
            seconds[name].append(cpu_seconds(code))
    base = seconds["import prefect"][1:]  # the first round warms up
    for name, (_, *times) in seconds.items():
        ratio = statistics.median(one / of for one, of in zip(times, base, strict=True))
        print(f"{name:34} {statistics.median(times):5.2f} s   {ratio:4.2f}")


if __name__ == "__main__":
    main()

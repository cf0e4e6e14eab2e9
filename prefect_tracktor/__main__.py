"""`python -m prefect_tracktor` is `prefect-tracktor`."""

from prefect_tracktor.cli import run

run()

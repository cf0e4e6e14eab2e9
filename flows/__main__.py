"""`python -m flows`, which is the same as `prefect-tracktor`."""

from prefect_tracktor.cli import run

run()

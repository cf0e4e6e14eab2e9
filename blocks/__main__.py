"""`python -m blocks`, which is the same as `prefect-tracktor blocks`."""

from prefect_tracktor.cli import run

run("blocks")

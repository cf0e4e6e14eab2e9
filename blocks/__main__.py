"""`python -m blocks` is `prefect-tracktor blocks`."""

from prefect_tracktor.cli import run

run("blocks")

"""`python -m flows serve` is the same as `prefect-tracktor serve`, for all commands."""

from prefect_tracktor.cli import run

run()

"""`python -m flows serve` is `prefect-tracktor serve`; all its commands work so."""

from prefect_tracktor.cli import run

run()

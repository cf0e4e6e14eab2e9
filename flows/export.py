"""Every night: export orders, parcels and their steps as tables.

**Touches**: the files or the warehouse that the tables go to. Tracktor is only read.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor.deploy import Shop, daily, deployment_of, for_scanning, required
from prefect_tracktor.flows import ExportFiles, ExportWarehouse, export_tracking

# where the tables go: files, such as ExportFiles(folder="s3://bucket/tracking"), or a warehouse,
# such as ExportWarehouse(destination="postgres")
TO: ExportFiles | ExportWarehouse | None = None


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    to = required(TO, "set TO in flows/export.py: where the tables go")
    return deployment_of(
        export_tracking,
        shop,
        name="export-tracking",
        description=__doc__,
        schedule=daily("0 4 * * *", shop),
        parameters=for_scanning(shop) | {"to": to},
    )

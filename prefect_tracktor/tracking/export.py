"""Tables as Prefect assets, which show their lineage."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE

from prefect_tracktor.tracking.rows import TABLES
from prefect_tracktor.tracking.writers import TrackingWriter
from prefect_tracktor.validation import whole_path


def materialize_tables(writer: TrackingWriter, *, account: str, place: str) -> None:
    """Finish the tables, and record each as an asset that depends on the account."""
    assets = [
        Asset(key=f"{place}/{name}", properties=AssetProperties(name=f"Tracktor {name}"))
        for name in TABLES
    ]

    @materialize(
        *assets,
        name="export-tracking",
        asset_deps=[f"tracktor://{account}"],
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def export() -> None:
        writer.finish()
        for asset, (table, rows) in zip(assets, writer.counts.items(), strict=True):
            add_asset_metadata(asset, {"table": table, "rows": rows})

    export()


def place_of_folder(folder: str) -> str:
    """Return the key of a folder's assets: its address without secrets."""
    link = next((link for link in reversed(folder.split("::")) if "://" in link), "")
    if not link:
        return Path(whole_path(folder)).as_uri()
    parts = urlsplit(link)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{quote(host + parts.path.rstrip('/'), safe='/:')}"


def place_of_warehouse(destination: Any, dataset: str) -> str:
    """Return the key of a dataset's assets in a dlt destination."""
    name = destination if isinstance(destination, str) else destination.destination_name
    return f"{quote(name.rpartition('.')[2])}://{quote(dataset)}"

"""Reports in Prefect's UI: tables, summaries, charts and progress, as artifacts.

A report never fails the work that it reports on: when Prefect's API has trouble, a warning is
logged and the run goes on. All functions are synchronous; an asynchronous flow calls them with
`await asyncio.to_thread(...)`.
"""

from prefect_tracktor.reporting.artifacts import (
    publish_charts,
    publish_message,
    publish_summary,
    publish_table,
)
from prefect_tracktor.reporting.charts import Chart
from prefect_tracktor.reporting.markdown import (
    Cell,
    Link,
    Row,
    admin_link,
    markdown_table,
    plain,
    tracking_link,
)
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import (
    WORDINGS,
    Wording,
    counts_in_words,
    in_list,
    label_of,
    shown,
    what_to_do,
)

__all__ = [
    "WORDINGS",
    "Cell",
    "Chart",
    "Link",
    "Progress",
    "Row",
    "Wording",
    "admin_link",
    "counts_in_words",
    "in_list",
    "label_of",
    "markdown_table",
    "plain",
    "publish_charts",
    "publish_message",
    "publish_summary",
    "publish_table",
    "shown",
    "tracking_link",
    "what_to_do",
]

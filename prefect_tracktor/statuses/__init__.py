"""Manual tracking statuses: what a shop wants, and what must be written for it."""

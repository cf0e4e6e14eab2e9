"""Manual tracking statuses: the desired ones, and the plan that applies them. No I/O."""

"""Data kept between runs: the notification ledger and the completed orders."""

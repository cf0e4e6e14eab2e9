"""What is kept between runs: the ledger and the completed orders."""

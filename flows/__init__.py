"""What you deploy: each ready-made flow with its schedule and parameters, as code."""

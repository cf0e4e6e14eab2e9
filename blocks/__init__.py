"""Blocks as code: the ones that the deployments in `flows/` use."""

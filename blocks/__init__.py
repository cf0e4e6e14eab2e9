"""The blocks that the deployments in `flows/` refer to, as code."""

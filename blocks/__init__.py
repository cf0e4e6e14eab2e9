"""What you configure: the block documents that the deployments in `flows/` refer to, as code."""

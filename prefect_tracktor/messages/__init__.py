"""Letters to customers: what they say, how they travel, and who was told what."""

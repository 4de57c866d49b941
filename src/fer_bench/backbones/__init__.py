"""Networks, one file a family, each ending in features for the head."""

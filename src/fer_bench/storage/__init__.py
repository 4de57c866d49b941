"""Files, locks and the cache: what must survive a kill, a full disk and another process."""

"""The Store, a collection on disk: its shards, its listing, how it is collected, and access to the original images."""

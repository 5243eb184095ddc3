"""The Store, a collection on disk: shards, listing, how it is collected, and the originals read once more."""

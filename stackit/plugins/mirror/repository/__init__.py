"""A mirror on disk: refs, leftovers, repairs, signs of foreign hands."""

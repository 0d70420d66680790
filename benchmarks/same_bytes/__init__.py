"""Do two commits leave the same bytes, and does the newer one read what the older one made? See ``__main__``."""

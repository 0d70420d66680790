"""One audit: plan it, run it, judge it, record it, report it."""

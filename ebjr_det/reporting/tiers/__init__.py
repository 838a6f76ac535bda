"""Several tiers drawn: what is best by budget, what more than two add, and which tier answers what."""

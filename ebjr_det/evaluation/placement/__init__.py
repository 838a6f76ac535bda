"""Where a router pays: behind the student, in front of it, or in both places, at every budget."""

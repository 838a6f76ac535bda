"""A configured pair at work: live, offline, as a stream, timed, and from an exported folder."""

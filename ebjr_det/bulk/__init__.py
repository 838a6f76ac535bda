"""The pair on any number of pictures: where they come from, who works on them, where answers go."""

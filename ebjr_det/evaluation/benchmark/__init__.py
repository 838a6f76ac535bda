"""How fast a pair is: scenarios, subjects, the machine, the result."""

"""More than two models judged: what chains of them reach at every budget, and what the best one adds."""

"""CIFAR's networks, what surrounds a classifier's network, and the classes that published ones have."""

"""Ways to run a network, by name: the same raw outputs, at another speed.

`registry` has them by name, `choose` tries them. Convention: a batch goes in, [images, ...], as the model's
preprocessing made it; out comes one column for each of the network's outputs, with one entry an image.
Decoding of boxes, suppression and scores lie outside. Nothing here knows what a picture is; every library is
imported only by the runtime that needs it.
"""

"""How exactly a GPU multiplies float32: whole, or in TF32, which keeps 10 bits of each factor's 23.

torch has convolutions in TF32 by default, which moves outputs by some 5e-4 of their spread, and one switch
for the whole process. Networks in several threads may want it to stand differently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

import torch


class Products:
    """The process's switch: within, it stands as asked; threads that ask for the same share it."""

    def __init__(self) -> None:
        self.free, self.within, self.tf32 = Condition(), 0, False
        self.before = (False, False)

    @contextmanager
    def __call__(self, tf32: bool) -> Iterator[None]:
        """Products in TF32 or whole; those who ask otherwise wait, and the last to leave puts it back."""
        convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
        with self.free:
            self.free.wait_for(lambda: self.within == 0 or self.tf32 == tf32)
            if self.within == 0:
                self.before = convolutions.allow_tf32, products.allow_tf32
                convolutions.allow_tf32 = products.allow_tf32 = self.tf32 = tf32
            self.within += 1
        try:
            yield
        finally:
            with self.free:
                self.within -= 1
                if self.within == 0:
                    convolutions.allow_tf32, products.allow_tf32 = self.before
                    self.free.notify_all()


float32_products = Products()

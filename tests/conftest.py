"""One thread: a second has nothing to do on tiny tensors, and on a busy machine every step waits for it."""

import torch

torch.set_num_threads(1)

"""One thread: a second has nothing to do on tiny tensors, and on a busy machine every step waits for it."""

import os

# Before numpy is loaded, and for the processes that tests start.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")

import torch  # noqa: E402

torch.set_num_threads(1)

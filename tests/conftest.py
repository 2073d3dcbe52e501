import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores; threads of their own would only wait for each other.
    torch.set_num_threads(1)

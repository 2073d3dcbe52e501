"""How often the host waits for a GPU."""

import warnings

import torch


def waits(function, *arguments) -> list[str]:
    """What CUDA's own watchdog says of each wait in a call."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [str(w.message) for w in caught if "synchroniz" in str(w.message)]

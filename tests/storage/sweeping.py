"""Sweeps a storage to the end of a round."""

from worker.storage import SharedStorage, Sweep


async def swept(storage: SharedStorage, older_than: float) -> int:
    """Sweep for the first time; gives how many files were removed."""
    return await sweep_once(storage, storage.new_sweep(older_than))


async def sweep_once(storage: SharedStorage, sweep: Sweep) -> int:
    """Sweep one round more; gives how many files it removed."""
    sweep.begin()
    while await storage.sweep_on(sweep):
        pass
    return sweep.removed

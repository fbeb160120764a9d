"""Queries of one call in lanes: threads side by side that share out the processor's cores.

A pass through a small language model keeps several cores busy only for its large products, and one of them for all that is
between. Lanes fill each other's gaps, and each has products enough of its own.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
_ROWS = 32
"""Prompts that a lane has at least: with fewer, most of a pass is reading weights, which lanes do each for itself."""


def deal(keys: Sequence[Hashable], costs: Sequence[int], device: torch.device) -> list[list[int]]:
    """Places of queries, dealt to as many lanes as make sense on a device, such that all have about as much to do.

    keys: queries with the same one stay in one lane, for what they share is then done once. costs: of each query.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    count = torch.get_num_threads() if device.type == "cpu" else 1
    count = max(1, min(count, len(groups) // _ROWS))
    lanes: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    weights = {key: sum(costs[place] for place in places) for key, places in groups.items()}
    for key in sorted(groups, key=lambda key: -weights[key]):
        lightest = loads.index(min(loads))
        lanes[lightest] += groups[key]
        loads[lightest] += weights[key]
    return [sorted(lane) for lane in lanes]


def side_by_side(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each gives, in their order; of several, each in a thread with its share of torch's own threads.

    The first runs in the calling thread. Comes back, or raises what one of them raised, when all have ended.
    """
    if len(works) == 1:
        return [works[0]()]
    threads = torch.get_num_threads()
    found: list[Result | None] = [None] * len(works)
    errors: list[BaseException] = []

    def run(place: int) -> None:
        # Of this thread alone; only threads that begin with torch while it is so take it over.
        torch.set_num_threads(max(1, threads // len(works)))
        try:
            found[place] = works[place]()
        except BaseException as error:
            errors.append(error)

    others = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(1, len(works))]
    try:
        for thread in others:
            thread.start()
        run(0)
        for thread in others:
            thread.join()
    finally:
        torch.set_num_threads(threads)
    if errors:
        raise errors[0]
    return found  # type: ignore[return-value]  # none is missing where there is no error

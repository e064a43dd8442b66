"""Waves: which targets are worked on together. Pure; used for Tentacles and for whatever else goes in waves."""

from collections.abc import Callable, Sequence

BATCH = 10
"""How many targets one wave has at most, unless the request says otherwise."""
CANARY = 1
"""How many go first and alone where there are more than two, unless the request says otherwise."""
FAILURES_SHARE = 10
"""One target in so many may fail before a run stops itself, unless the request says otherwise."""


def in_waves(
    names: Sequence[str],
    *,
    canary: int | None = None,
    batch: int | None = None,
    together: Callable[[Sequence[str]], bool] = lambda _: True,
) -> tuple[tuple[str, ...], ...]:
    """Return the names in waves: the canary first, then batches, each name as early as the constraint allows.

    `together` tells whether a wave may consist of these names; a name alone always may. None means the default.
    """
    if canary is None:
        canary = CANARY if len(names) > CANARY + 1 else 0
    size = canary or batch or BATCH
    rest = list(names)
    waves: list[tuple[str, ...]] = []
    while rest:
        wave: list[str] = []
        later: list[str] = []
        for number, name in enumerate(rest):
            if len(wave) == size:
                later += rest[number:]
                break
            if not wave or together([*wave, name]):
                wave.append(name)
            else:
                later.append(name)
        waves.append(tuple(wave))
        rest, size = later, batch or BATCH
    return tuple(waves)


def budget(targets: int, max_failures: int | None, *, stop_on_failure: bool = False) -> int:
    """Return how many targets may fail before the run stops itself: by default a tenth of them, at least one."""
    if stop_on_failure:
        return 0
    return max_failures if max_failures is not None else max(1, -(-targets // FAILURES_SHARE))

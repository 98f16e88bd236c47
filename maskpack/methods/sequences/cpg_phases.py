"""CPG's epochs: a phase to pick, rounds of pruning, a phase to retrain."""

from __future__ import annotations

from dataclasses import dataclass

from maskpack.common.errors import OptionError

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # pruned by the end of each round


@dataclass(frozen=True)
class Phases:
    """Epochs, counted from 0: pick below `rounds[0]`, then a round from each, retrain the last.

    `rounds` begin with the first and end where retraining begins.
    """

    rounds: tuple[int, ...]
    ratios: tuple[float, ...]

    @classmethod
    def of(cls, epochs: int, pick: float, retrain: float) -> Phases:
        """How the paper's 100 + 10 x 20 + 30 epochs are laid out in another number of them.

        With fewer epochs than rounds there are fewer rounds, up to the same last ratio.

        Raises:
            OptionError: not one epoch for each phase.
        """
        first = max(round(epochs * pick), 1)
        last = epochs - max(round(epochs * retrain), 1)
        count = min(len(RATIOS), last - first)
        if count < 1:
            raise OptionError(
                f"--epochs {epochs} with pick={pick:g} and retrain={retrain:g}: none is left to "
                "prune in; cpg picks, prunes and retrains, expected 3 epochs or more"
            )
        rounds = tuple(first + n * (last - first) // count for n in range(count + 1))
        ratios = tuple(RATIOS[-(-(n + 1) * len(RATIOS) // count) - 1] for n in range(count))
        return cls(rounds, ratios)

    def round_of(self, epoch: float) -> int:
        """Which round a moment lies in: -1 before the first, their number once they are over."""
        return sum(epoch >= begin for begin in self.rounds) - 1


def cubic(start: float, end: float, done: float) -> float:
    """Share pruned when `done` of the way from `start` to `end` (Zhu and Gupta 2017, eq. 1)."""
    return end + (start - end) * (1 - min(max(done, 0.0), 1.0)) ** 3


def least_ratio(tasks: int, number: int) -> float:
    """What task `number`, counted from 0, must leave: 1 - 1 / (those to come + 1), in tenths.

    At most the last ratio that there is, which 20 and more to come are left.
    """
    to_come = max(tasks - number - 1, 0)
    return min(round(1 - round(1 / (to_come + 1), 1), 1), RATIOS[-1])

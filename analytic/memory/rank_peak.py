"""The peak of one rank by category: what every stack answers with, and whether it is proven."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPeak:
    """Bytes live on a rank at the highest moment of a training step. The five categories add up to the peak.

    Attributes:
        parameters_bytes: stored, padding of uneven shards included. temporaries_bytes: gathered copies among them.
        activations_bytes: whatever is held for backward, with inputs and buffers.
        moment: when that is, such as `backward of layers.30, lm_head: gradient`.
        origin: `proven`, or `by formula` with its error on published rows.
    """

    rank: int
    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    temporaries_bytes: int
    moment: str
    origin: str

    @property
    def peak_bytes(self) -> int:
        """All five."""
        held = self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes
        return held + self.activations_bytes + self.temporaries_bytes

"""The software that runs a layout. Every answer about many GPUs belongs to one stack."""

from __future__ import annotations

from typing import Literal

# transformers-fsdp2: `transformers.distributed` on torch's `fully_shard`, proven here. The others by formula.
Stack = Literal["transformers-fsdp2", "torchtitan", "megatron-te"]

"""Closed forms of a rank compared with ranks of simulated worlds: no figure may differ.

Stored bytes, moments, gradients, FLOPs and every collective, on random models, layouts and ranks: uneven and empty
shards, tied embeddings, one type and mixed precision, with and without checkpointing. A handful by default; with
`-m thorough` some 300.
"""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from analytic.errors import UsageError
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.transformers_fsdp2 import check
from empirical.models.distributed import RankCase
from empirical.proof.rank import rank_differences
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import RankObservation, observe
from tests.rank_cases import data_ranks, expert_ranks, tensor_ranks

"""The allowance: its lines, and the figures behind them."""

from __future__ import annotations

import csv
from statistics import median

from analytic.memory.allowance import allowance, communicators
from analytic.memory.published import published_path
from analytic.parallelism.layout import Layout


def test_lines_add_up_and_have_sources() -> None:
    layout = Layout(dp_shard=8, tp=2)
    lines = {line.name: line for line in allowance("transformers-fsdp2", layout, 10**10, has_experts=False)}
    assert lines["CUDA context"].size_bytes == 300_000_000
    assert lines["cuBLAS workspace"].size_bytes == 33_554_432
    buffers = 4 * 2**20 + 512 * 2**10 + 4800 * 2**10  # Simple, LL and LL128
    assert lines["NCCL buffers"].size_bytes == 3 * 24 * buffers  # dp_shard, tp and the world
    assert lines["fragmentation"].size_bytes == 300_000_000
    assert all(line.source for line in lines.values())


def test_the_formula_of_megatron_counts_workspaces_itself() -> None:
    names = [line.name for line in allowance("megatron-te", Layout(), 1, has_experts=False)]
    assert names == ["CUDA context", "NCCL buffers", "fragmentation"]


def test_each_group_has_a_communicator() -> None:
    assert communicators(Layout(cp=2), has_experts=False) == 3  # the ring, the shards, the world
    everywhere = Layout(dp_replicate=2, dp_shard=8, tp=2, pp=2, cp=2, ep=4, micro_batches=2)
    assert communicators(everywhere, has_experts=True) == 8
    assert communicators(Layout(dp_shard=8), has_experts=True) == 2


def test_fragmentation_is_the_median_of_published_pairs() -> None:
    with published_path().open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["reserved_gib"]]
    excess = [float(row["reserved_gib"]) / float(row["peak_mem_gib"]) - 1 for row in rows]
    assert len(excess) == 21
    (line,) = [x for x in allowance("torchtitan", Layout(), 1000, has_experts=False) if x.name == "fragmentation"]
    assert line.size_bytes == round(1000 * median(excess))

"""Everything that is counted of one model under one workload."""

from __future__ import annotations

from dataclasses import dataclass

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.model.breakdown import Breakdown
from analytic.model.checkpointing import Checkpointing
from analytic.model.flops import (
    AttentionConvention,
    TrainingFlops,
    forward_flops,
    layer_flops,
    mtp_flops,
    training_flops,
)
from analytic.model.params import ParameterCounts, layer_params, model_buffers, model_params, parameter_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the model is run on, and what is counted of it."""

    seq_len: int
    seq_len_source: str
    batch_size: int
    convention: AttentionConvention
    checkpointing: Checkpointing
    mtp: bool

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        *,
        seq_len: int | None = None,
        batch_size: int = 1,
        convention: AttentionConvention = "full",
        checkpointing: Checkpointing = "none",
        mtp: bool = False,
    ) -> Workload:
        """The workload, with the configuration's own sequence length where none is given.

        Raises:
            UsageError: more tokens than a learned position table has rows; `mtp` of a model without it.
        """
        rows = config.spec.num_positions
        if seq_len is not None and rows and seq_len > rows:
            raise UsageError(f"--seq-len {seq_len}: expected at most {rows}, the learned positions of {config.path}")
        if mtp and not config.spec.mtp_layers:
            raise UsageError(f"--mtp: {config.path} states no num_nextn_predict_layers")
        return cls(
            seq_len=seq_len or config.default_seq_len,
            seq_len_source="--seq-len" if seq_len else config.seq_len_source,
            batch_size=batch_size,
            convention=convention,
            checkpointing=checkpointing,
            mtp=mtp,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One layer of a run of equal ones; FLOPs are those of the whole batch through that one layer."""

    first: int
    count: int
    kind: str
    params: int
    forward: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a model; breakdowns are by canonical term, layers collapsed."""

    config: ModelConfig
    workload: Workload
    params: ParameterCounts
    param_terms: Breakdown
    buffer_terms: Breakdown
    flops: TrainingFlops
    flop_terms: Breakdown
    mtp_forward: int
    runs: tuple[RunSummary, ...]


def summarize(config: ModelConfig, work: Workload) -> Summary:
    """Apply every formula to one model and one workload."""
    spec = config.spec
    h, s, batch = spec.hidden_size, work.seq_len, work.batch_size
    return Summary(
        config=config,
        workload=work,
        params=parameter_counts(spec, mtp=work.mtp),
        param_terms=model_params(spec, mtp=work.mtp).over_layers(),
        buffer_terms=model_buffers(spec).over_layers(),
        flops=training_flops(
            spec,
            seq_len=s,
            batch_size=batch,
            convention=work.convention,
            checkpointing=work.checkpointing,
            mtp=work.mtp,
        ),
        flop_terms=forward_flops(spec, s, work.convention, mtp=work.mtp).times(batch).over_layers(),
        mtp_forward=mtp_flops(spec, s, work.convention).total * batch,
        runs=tuple(
            RunSummary(
                first=run.first,
                count=run.count,
                kind=run.layer.kind,
                params=layer_params(run.layer, h).total,
                forward=layer_flops(run.layer, h, s, work.convention).total * batch,
            )
            for run in spec.runs
        ),
    )

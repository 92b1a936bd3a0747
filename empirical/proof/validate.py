"""The two models of the original exercise against every witness, a line each."""

from __future__ import annotations

from analytic.huggingface import config as hf
from analytic.io.files import configs_dir
from analytic.planning.counts import Workload
from empirical.proof.crosscheck import verify

MODELS = ("llama_7b_config.json", "deepseek_v3_config.json")


def validate(seq_len: int | None) -> int:
    """Print PASS or FAIL for every check of both models as it is made. Returns 0 if all pass, else 1."""
    failed = 0
    for name in MODELS:
        config = hf.load(configs_dir() / name)
        for check in verify(config, Workload.of(config, seq_len=seq_len).seq_len):
            verdict = "PASS" if check.status == "pass" else "FAIL"
            witness = "no figure" if check.measured is None else f"{check.measured:,}"
            print(
                f"{verdict}  {check.model}  {check.quantity}: {check.analytic:,}; {check.witness}: {witness}",
                flush=True,
            )
            failed += check.status == "fail"
    return 1 if failed else 0

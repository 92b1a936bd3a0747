"""Published runs: the MFU that their figures imply, against the arithmetic written out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from analytic.errors import PlannerError
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir
from analytic.model.params import parameter_counts
from analytic.planning.published_run import headline, implied_mfus, load_run, shipped_runs

HARDWARE = load_hardware()
RUNS = configs_dir() / "runs"


def dense_forward_per_token(h: int, layers: int, ffn: int, kv_width: int, vocab: int, pairs: Fraction) -> Fraction:
    """2 FLOPs a weight of q, k, v, o, gate, up, down and head; 4 h for every pair of positions in each layer."""
    return layers * (2 * (2 * h * h + 2 * h * kv_width + 3 * h * ffn) + 4 * h * pairs) + 2 * h * vocab


# name: (shape, sequence length, tokens, GPU-hours, dense bf16 peak), all as published
DENSE = {
    "llama-65b": ((8192, 80, 22_016, 8192, 32_000), 2048, 14 * 10**11, 1_022_362, 312 * 10**12),
    "llama-2-70b": ((8192, 80, 28_672, 1024, 32_000), 4096, 2 * 10**12, 1_720_320, 312 * 10**12),
    "llama-3.1-405b": ((16_384, 126, 53_248, 1024, 128_256), 8192, 156 * 10**11, 30_840_000, 989 * 10**12),
}
# Published parameter counts, to the integer (counted from the real classes).
PARAMS = {
    "llama-65b": 65_285_660_672,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-405b": 405_853_388_800,
    "deepseek-v3": 671_026_404_352,
}


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_run_by_hand(name: str) -> None:
    shape, seq_len, tokens, hours, peak = DENSE[name]
    found = {reading.convention: reading.mfu for reading in implied_mfus(load_run(RUNS / f"{name}.toml", HARDWARE))}
    for convention, pairs in (("full", Fraction(seq_len)), ("causal", Fraction(seq_len + 1, 2))):
        flops = 3 * dense_forward_per_token(*shape, pairs) * tokens
        assert found[convention] == flops / (hours * 3600 * peak)  # type: ignore[index]


def test_deepseek_v3() -> None:
    run = load_run(RUNS / "deepseek-v3.toml", HARDWARE)
    readings = {(r.hours.gpu_hours, r.dtype, r.convention, r.mtp): r.mfu for r in implied_mfus(run)}
    assert len(readings) == 2 * 2 * 2 * 2
    # The forward pass at 4,096 tokens has 383,866,460,176,384 FLOPs (full) and 341,957,813,469,184 (causal).
    for convention, forward in (("full", 383_866_460_176_384), ("causal", 341_957_813_469_184)):
        for hours in (2_664_000, 2_788_000):
            flops = Fraction(3 * forward, 4096) * 14_800_000_000_000
            assert readings[hours, "bf16", convention, False] == flops / (hours * 3600 * 989 * 10**12)  # type: ignore[index]
            assert readings[hours, "fp8", convention, False] == flops / (hours * 3600 * 1979 * 10**12)  # type: ignore[index]
            assert readings[hours, "bf16", convention, True] > readings[hours, "bf16", convention, False]  # type: ignore[index]
    assert run.usd_per_gpu_hour is not None
    assert run.hours[1].gpu_hours * run.usd_per_gpu_hour == run.hours[1].stated_usd == 5_576_000


@pytest.mark.parametrize("name", PARAMS)
def test_the_models_are_the_published_ones(name: str) -> None:
    run = load_run(RUNS / f"{name}.toml", HARDWARE)
    assert parameter_counts(run.config.spec).total == PARAMS[name]


# The rule by which Llama's published code widens: 2/3 of 4 d, times a multiplier, up to the next multiple.
@pytest.mark.parametrize(
    ("name", "multiplier", "multiple"),
    [("llama-65b", 1, 256), ("llama-2-70b", 1.3, 4096), ("llama-3.1-405b", 1.2, 4096)],
)
def test_the_feed_forward_width_follows_the_published_rule(name: str, multiplier: float, multiple: int) -> None:
    config = load_run(RUNS / f"{name}.toml", HARDWARE).config
    width = int(multiplier * int(2 * 4 * config.spec.hidden_size / 3))
    assert config.raw["intermediate_size"] == -(-width // multiple) * multiple


def test_models_that_are_no_published_file_say_so() -> None:
    for name, paper in (("llama-65b", "arXiv:2302.13971"), ("llama-3.1-405b", "arXiv:2407.21783")):
        source = load_run(RUNS / f"{name}.toml", HARDWARE).config.raw["source"]
        assert paper in source
        assert "not verified against a published config.json" in source


def test_every_shipped_run_is_possible() -> None:
    runs = shipped_runs(HARDWARE)
    assert {run.path.stem for run in runs} >= PARAMS.keys()
    assert all(0.3 < headline(run).mfu < 0.6 for run in runs)


RUN = """
name = "x"
config = "model.json"
tokens = 1_000
seq_len = 16
gpu = "a100"
fp8 = false
source = "a paper"
[[hours]]
label = "all"
gpu_hours = 2
"""
BAD = {
    "not TOML": ("name =", "not TOML"),
    "no tokens": (RUN.replace("tokens = 1_000\n", ""), "missing tokens"),
    "no hours": (RUN[: RUN.index("[[")], "missing hours"),
    "hours empty": (RUN[: RUN.index("[[")] + "hours = []\n", "hours = []"),
    "hours a number": (RUN[: RUN.index("[[")] + "hours = 3\n", "hours = 3"),
    "no GPU-hours": (RUN.replace("gpu_hours = 2\n", ""), "missing gpu_hours"),
    "GPU-hours of nothing": (RUN.replace("gpu_hours = 2", "gpu_hours = 0"), "gpu_hours = 0"),
    "negative tokens": (RUN.replace("1_000", "-1"), "tokens = -1"),
    "half a token": (RUN.replace("1_000", "0.5"), "tokens = 0.5"),
    "unknown GPU": (RUN.replace("a100", "a1000"), "no GPU 'a1000'"),
    "fp8 as text": (RUN.replace("false", '"no"'), "fp8 = 'no'"),
    "fp8 on a GPU without": (RUN.replace("false", "true"), "a100-80 has no fp8 peak"),
    "unknown key": ("price = 3\n" + RUN, "price: no such key"),
    "no config": (RUN.replace("model.json", "other.json"), "other.json: No such file"),
    "sequence of nothing": (RUN.replace("seq_len = 16", "seq_len = 0"), "seq_len = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_run_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    (tmp_path / "model.json").write_text((configs_dir() / "models" / "llama-3-8b.json").read_text())
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(PlannerError) as caught:
        load_run(path, HARDWARE)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)

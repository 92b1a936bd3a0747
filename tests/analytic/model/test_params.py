"""Parameters where no published total would show an error."""

from dataclasses import replace

from analytic.model.params import mtp_params, parameter_counts
from tests.configurations import shipped


def test_active_parameters_of_multi_token_prediction_leave_out_the_experts_that_a_token_skips() -> None:
    """DeepSeek-V3 visits 8 of 256 experts, each of three matrices of 7168 x 2048, in this layer too."""
    spec = shipped("deepseek_v3").spec
    skipped = (256 - 8) * 3 * 7168 * 2048
    assert mtp_params(spec).total - mtp_params(spec, active_only=True).total == skipped
    with_mtp, without = parameter_counts(spec, mtp=True), parameter_counts(spec)
    assert with_mtp.active - without.active == without.mtp - skipped


def test_a_bias_on_the_head_is_part_of_the_head() -> None:
    spec = replace(shipped("llama_7b").spec, head_bias=True)
    assert parameter_counts(spec).head == 32_000 * 4096 + 32_000
    tied = replace(spec, tie_word_embeddings=True)
    assert parameter_counts(tied).head == 32_000

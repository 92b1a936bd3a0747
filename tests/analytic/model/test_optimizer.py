"""What an optimizer holds and moves, by implementation."""

from analytic.model.optimizer import cost_of


def test_adamw_has_two_moments_and_fused_a_step_count_on_the_device() -> None:
    """Four bytes an element of 1,000: and the count is one number in fp32."""
    moments = {"exp_avg": 4000, "exp_avg_sq": 4000}
    assert cost_of("adamw_fused").state_bytes(1000, 4) == moments | {"step": 4}
    assert cost_of("adamw_foreach").state_bytes(1000, 4) == moments
    assert cost_of("none").state_bytes(1000, 4) == {}


def test_adamw_reads_four_tensors_and_writes_three() -> None:
    assert (cost_of("adamw_fused").passes, cost_of("adamw_foreach").passes, cost_of("none").passes) == (7, 7, 0)
    assert (cost_of("adamw_fused").copies, cost_of("adamw_foreach").copies) == ((), ("exp_avg_sq_sqrt",))

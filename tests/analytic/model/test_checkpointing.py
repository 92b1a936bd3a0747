"""What is recomputed, by policy."""

from analytic.model.checkpointing import recomputation, recomputes_layers
from analytic.model.flops import layer_flops
from tests.configurations import shipped


def test_a_checkpointed_layer_runs_again_but_for_its_closing_projection() -> None:
    spec = shipped("llama_7b").spec
    forward = layer_flops(spec.layers[0], spec.hidden_size, 2048, "full")
    full = recomputation("full", spec.layers[0], forward)
    assert (full.textbook, full.textbook - full.executed) == (897_648_164_864, 2 * 2048 * 4096 * 11008)
    none = recomputation("none", spec.layers[0], forward)
    assert (none.textbook, none.executed) == (0, 0)
    assert (recomputes_layers("none"), recomputes_layers("full")) == (False, True)

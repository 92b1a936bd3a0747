"""The instruments themselves: what they count, and that nothing passes uncounted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from empirical.witnesses import flops
from empirical.witnesses.flops import UncountedOperatorError, executed_flops, flop_counter_flops, fvcore_flops


class TwoProducts(nn.Module):
    """A projection in a module of its own, and a product that belongs to the parent."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 7, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y @ y.transpose(-2, -1)


class Attention(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 16, 8, dtype=torch.bfloat16))

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        return F.grouped_mm(rows, self.weight.transpose(-2, -1), offs=ends)


class Inverse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x)


@pytest.mark.parametrize("count", [fvcore_flops, flop_counter_flops])
def test_products_by_module_without_children(count: object) -> None:
    assert callable(count)
    with torch.device("meta"):
        counted = count(TwoProducts(), (torch.empty(2, 3, 5),))
    assert counted == {"inner": 2 * 2 * 3 * 5 * 7, "": 2 * 2 * 3 * 3 * 7}


@pytest.mark.parametrize("count", [fvcore_flops, flop_counter_flops])
def test_attention_over_the_full_square_with_unlike_widths(count: object) -> None:
    assert callable(count)
    batch, heads, seq_len, d_qk, d_v = 2, 3, 11, 8, 5
    with torch.device("meta"):
        q, k = torch.empty(batch, heads, seq_len, d_qk), torch.empty(batch, heads, seq_len, d_qk)
        counted = count(Attention(), (q, k, torch.empty(batch, heads, seq_len, d_v)))
    assert counted == {"": 2 * batch * heads * seq_len * seq_len * (d_qk + d_v)}


@pytest.mark.parametrize("count", [fvcore_flops, flop_counter_flops])
def test_grouped_products_of_which_a_row_takes_one(count: object) -> None:
    assert callable(count)
    with torch.device("meta"):
        counted = count(Grouped(), (torch.empty(12, 8, dtype=torch.bfloat16), torch.empty(3, dtype=torch.int32)))
    assert counted == {"": 2 * 12 * 8 * 16}


def test_backward_of_a_grouped_product_is_twice_forward() -> None:
    with torch.device("meta"):
        module, ends = Grouped(), torch.empty(3, dtype=torch.int32)
        rows, gradient = (
            torch.empty(12, 8, dtype=torch.bfloat16, requires_grad=True),
            torch.empty(12, 16, dtype=torch.bfloat16),
        )
        assert executed_flops(lambda: module(rows, ends).backward(gradient)) == 3 * 2 * 12 * 8 * 16


def test_an_operator_that_nobody_counts_is_an_error_that_names_it() -> None:
    with torch.device("meta"):
        x = torch.empty(4, 4)
        with pytest.raises(UncountedOperatorError, match="fvcore met operators it does not count: linalg_inv"):
            fvcore_flops(Inverse(), (x,))
        with pytest.raises(UncountedOperatorError, match=r"FlopCounterMode met operators .*linalg_inv_ex"):
            flop_counter_flops(Inverse(), (x,))


@pytest.mark.parametrize("operator", ["scaled_dot_product_attention", "_grouped_mm"])
def test_fvcore_without_our_handlers_fails_rather_than_counting_zero(
    monkeypatch: pytest.MonkeyPatch, operator: str
) -> None:
    monkeypatch.delitem(flops._FVCORE_HANDLERS, f"aten::{operator}")
    with torch.device("meta"):
        q = torch.empty(1, 1, 4, 8)
        module: nn.Module = Attention()
        inputs: tuple[Tensor, ...] = (q, q, q)
        if operator == "_grouped_mm":
            module, inputs = Grouped(), (torch.empty(12, 8, dtype=torch.bfloat16), torch.empty(3, dtype=torch.int32))
        with pytest.raises(UncountedOperatorError, match=operator):
            fvcore_flops(module, inputs)


def test_flop_counter_without_our_formula_fails_rather_than_counting_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "TORCH_FORMULAS", {})
    with (
        torch.device("meta"),
        pytest.raises(UncountedOperatorError, match="_grouped_mm"),
    ):
        flop_counter_flops(Grouped(), (torch.empty(12, 8, dtype=torch.bfloat16), torch.empty(3, dtype=torch.int32)))


def test_no_matrix_product_is_on_the_list_of_zeros() -> None:
    from fvcore.nn.jit_analysis import _IGNORED_OPS
    from torch.utils.flop_counter import flop_registry

    counted = {packet.__name__ for packet in flop_registry} | {"matmul", "linear", "einsum", "_grouped_mm"}
    assert counted & flops.ZERO_FLOP_OPERATORS == set()
    assert counted & {name.removeprefix("aten::") for name in _IGNORED_OPS} == set()

"""The routed experts of one layer, each token through k of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analytic.model.spec import MoeFfn

GROUPED_MM_ALIGNMENT_BYTES = 16  # torch.nn.functional.grouped_mm refuses rows of any other multiple


def grouped_mm_takes(width: int, dtype: torch.dtype) -> bool:
    """Whether rows of `width` elements are aligned as `grouped_mm` wants them."""
    return width * dtype.itemsize % GROUPED_MM_ALIGNMENT_BYTES == 0


class Experts(nn.Module):
    """Gated experts as two merged tensors, gate and up [E,2F,H] and down [E,H,F].

    Rows are sorted by expert and multiplied group by group (`grouped_mm`: no padding, no dropped
    token). Widths that `grouped_mm` cannot align gather a copy of the expert for every row instead,
    which takes the same FLOPs and far more memory: only for small shapes, or on the meta device.
    """

    def __init__(self, f: MoeFfn, hidden_size: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        width = f.expert_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(f.num_experts, 2 * width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(f.num_experts, hidden_size, width))
        nn.init.normal_(self.gate_up_proj, std=hidden_size**-0.5)
        nn.init.normal_(self.down_proj, std=width**-0.5)
        self.activation = activation

    def forward(self, x_TH: Tensor, weights_Tk: Tensor, experts_Tk: Tensor) -> Tensor:  # noqa: N803 - shape suffixes
        k = experts_Tk.shape[-1]
        expert_of_row, order = experts_Tk.flatten().sort()
        rows = x_TH[order // k]
        gate, up = self._product(rows, self.gate_up_proj, expert_of_row).chunk(2, dim=-1)
        rows = self._product(self.activation(gate) * up, self.down_proj, expert_of_row)
        rows = rows * weights_Tk.flatten()[order, None]
        restored = torch.empty_like(order)
        restored[order] = torch.arange(order.shape[0], device=order.device)
        return rows[restored].unflatten(0, (-1, k)).sum(1).to(x_TH.dtype)

    def _product(self, rows: Tensor, weight: Tensor, expert_of_row: Tensor) -> Tensor:
        """Each row [T*k,in] times its own expert's matrix [E,out,in]; rows are sorted by expert."""
        if not all(grouped_mm_takes(width, weight.dtype) for width in weight.shape[1:]):
            return torch.bmm(weight[expert_of_row], rows.unsqueeze(-1)).squeeze(-1)
        # float: histc takes no integers on CPU
        per_expert = torch.histc(expert_of_row.float(), bins=weight.shape[0], min=0, max=weight.shape[0] - 1)
        ends = per_expert.cumsum(0).to(torch.int32)
        return F.grouped_mm(rows, weight.transpose(-2, -1), offs=ends)

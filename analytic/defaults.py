"""What is assumed where the user says nothing; every answer that uses one of these says so."""

from __future__ import annotations

DEFAULT_MFU = 0.4
DEFAULT_INFERENCE_MFU = 0.1  # what Epoch AI assumed of ChatGPT in 2025; prompts reach more, generation far less
MFU_RANGE = (0.3, 0.5)  # what tuned runs of dense models publish lies mostly within
RESERVE_BYTES = 2 * 10**9  # of a GPU's memory, for the CUDA context, workspaces and fragmentation
NODE_GPUS = 8  # that a fast link joins, where only the memory of a GPU is known
DEFAULT_DTYPE = "bf16"
DEFAULT_LAW = "besiroglu"
DEFAULT_MOE_LAW = "ludziejewski"
DEFAULT_VOCAB_SIZE = 32_000
DEFAULT_SEQ_LEN = 4096

"""The families that can be read: for each `model_type` its required keys and the parser of its `config.json`.

Only this package and `analytic.huggingface.config` know the key names of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families import experts, gpt_like, latent, llama_like, plain
from analytic.huggingface.families.parts import Family

__all__ = ["FAMILIES", "SAME_WEIGHTS_AS", "Family"]

FAMILIES: Mapping[str, Family] = {
    **llama_like.FAMILIES,
    **gpt_like.FAMILIES,
    **plain.FAMILIES,
    **experts.FAMILIES,
    **latent.FAMILIES,
}

# Names of remote-code model types whose weights a known class holds.
SAME_WEIGHTS_AS: Mapping[str, str] = {
    "hunyuan": "hunyuan_v1_moe",
    "kimi_k2": "deepseek_v3",
    "mimo": "qwen2",
}

"""The families that can be read, one file each: for each `model_type` its required keys, the parser of its
`config.json`, and how its class in `transformers` names its weights.

Only this package and the modules of `analytic.huggingface` know the key names of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families import (
    arcee,
    bloom,
    codegen,
    cohere,
    deepseek,
    dots,
    ernie,
    exaone,
    falcon,
    gemma,
    glm,
    gpt2,
    gpt_neo,
    gpt_neox,
    gpt_oss,
    gptj,
    granite,
    helium,
    hunyuan,
    internlm,
    iquestcoder,
    jais,
    llama,
    minimax,
    mistral,
    mixtral,
    mpt,
    nemotron,
    olmo,
    opt,
    persimmon,
    phi,
    qwen,
    seed_oss,
    smollm,
    stablelm,
    starcoder,
    xglm,
    youtu,
)
from analytic.huggingface.families.common import Family

__all__ = ["FAMILIES", "SAME_WEIGHTS_AS", "Family"]

FAMILIES: Mapping[str, Family] = {
    **arcee.FAMILIES,
    **bloom.FAMILIES,
    **codegen.FAMILIES,
    **cohere.FAMILIES,
    **deepseek.FAMILIES,
    **dots.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **falcon.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **gpt2.FAMILIES,
    **gpt_neo.FAMILIES,
    **gpt_neox.FAMILIES,
    **gpt_oss.FAMILIES,
    **gptj.FAMILIES,
    **granite.FAMILIES,
    **helium.FAMILIES,
    **hunyuan.FAMILIES,
    **internlm.FAMILIES,
    **iquestcoder.FAMILIES,
    **jais.FAMILIES,
    **llama.FAMILIES,
    **minimax.FAMILIES,
    **mistral.FAMILIES,
    **mixtral.FAMILIES,
    **mpt.FAMILIES,
    **nemotron.FAMILIES,
    **olmo.FAMILIES,
    **opt.FAMILIES,
    **persimmon.FAMILIES,
    **phi.FAMILIES,
    **qwen.FAMILIES,
    **seed_oss.FAMILIES,
    **smollm.FAMILIES,
    **stablelm.FAMILIES,
    **starcoder.FAMILIES,
    **xglm.FAMILIES,
    **youtu.FAMILIES,
}

# Names of remote-code model types whose weights a known class holds.
SAME_WEIGHTS_AS: Mapping[str, str] = {
    "hunyuan": "hunyuan_v1_moe",
    "kimi_k2": "deepseek_v3",
    "mimo": "qwen2",
}

"""IQuest-Coder, which Llama's class holds."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import GROUPED, Described, Family
from analytic.huggingface.families.llama import llama_of_128
from analytic.io.keys import Keys


def _iquestcoder(keys: Keys) -> Described:
    keys.must_be("use_sliding_window", False, "refused by IQuestCoderConfig")
    keys.must_be("clip_qkv", None, "refused by IQuestCoderConfig")
    return llama_of_128(keys, "IQuestCoderConfig")


FAMILIES: Mapping[str, Family] = {
    "iquestcoder": Family("LlamaForCausalLM", GROUPED, _iquestcoder),
}

"""Make the tiny models that real vLLM serves in the tests: a config and a tokenizer each, no weights.

    python make_models.py FOLDER

vLLM fills the weights itself (`--load-format dummy`). The widths are as small as its CPU kernels take:
head size 32 is the least the attention kernel has, and 512 + 64 is the only latent size of the MLA kernel
(vllm/v1/attention/backends/mla/cpu_mla.py). Needs only `tokenizers`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Json = dict[str, Any]

VOCABULARY = 4096
CONTEXT = 131072
SPECIAL_TOKENS = (
    "<unk>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TOKEN_ID = {token: index for index, token in enumerate(SPECIAL_TOKENS)}

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}{{ '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{ part['text'] }}
{%- elif part['type'] in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part['type'] in ('video', 'video_url') -%}<|vision_start|><|video_pad|><|vision_end|>
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}"""


def syllable_words() -> Iterator[str]:
    """Every word of two syllables from a small alphabet: a corpus that is the same on every machine."""
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    for first, second in itertools.product(syllables, repeat=2):
        yield f" {first}{second}"


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer of exactly VOCABULARY tokens, the special ones first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(syllable_words(), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the corpus gave {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    return tokenizer


COMMON: Json = {
    "vocab_size": VOCABULARY,
    "bos_token_id": TOKEN_ID["<bos>"],
    "eos_token_id": TOKEN_ID["<eos>"],
    "pad_token_id": TOKEN_ID["<pad>"],
    "max_position_embeddings": CONTEXT,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "use_cache": True,
    "torch_dtype": "bfloat16",
}

LLAMA: Json = COMMON | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "head_dim": 32,
    "mlp_bias": False,
}

DEEPSEEK_V3: Json = COMMON | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "rope_scaling": None,
    "moe_intermediate_size": 64,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
}

QWEN3_MOE: Json = COMMON | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "head_dim": 32,
    "moe_intermediate_size": 64,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}

# Three vision layers each feed one language layer (deepstack), so four language layers are the least.
QWEN3_VL: Json = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
    "image_token_id": TOKEN_ID["<|image_pad|>"],
    "video_token_id": TOKEN_ID["<|video_pad|>"],
    "vision_start_token_id": TOKEN_ID["<|vision_start|>"],
    "vision_end_token_id": TOKEN_ID["<|vision_end|>"],
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "text_config": COMMON
    | {
        "model_type": "qwen3_vl_text",
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [8, 4, 4]},
    },
    "vision_config": {
        "model_type": "qwen3_vl",
        "depth": 3,
        "deepstack_visual_indexes": [0, 1, 2],
        "hidden_size": 64,
        "out_hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "in_channels": 3,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 2304,
    },
}

IMAGE_PROCESSOR: Json = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "processor_class": "Qwen3VLProcessor",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 4096, "longest_edge": 131072},  # pixels, not tokens
    "do_resize": True,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}

MODELS: dict[str, dict[str, Json]] = {
    "tiny-llama-gqa": {"config.json": LLAMA},
    "tiny-deepseek-v3-mla-moe": {"config.json": DEEPSEEK_V3},
    "tiny-qwen3-moe-gqa": {"config.json": QWEN3_MOE},
    "tiny-qwen3-vl": {
        "config.json": QWEN3_VL,
        "preprocessor_config.json": IMAGE_PROCESSOR,
        "video_preprocessor_config.json": IMAGE_PROCESSOR | {"video_processor_type": "Qwen3VLVideoProcessor"},
    },
}
"""Folder name to the files that differ between the models."""

SHARED: dict[str, Json] = {
    "tokenizer_config.json": {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {},
        "chat_template": CHAT_TEMPLATE,
    },
    # The server takes these as its default sampling, as it does for real models.
    "generation_config.json": {
        "bos_token_id": TOKEN_ID["<bos>"],
        "eos_token_id": TOKEN_ID["<eos>"],
        "pad_token_id": TOKEN_ID["<pad>"],
        "temperature": 0.6,
        "top_p": 0.95,
    },
}


def make_models(folder: Path) -> list[Path]:
    """Write every model's folder under `folder`; gives their paths. Overwrites what stands there."""
    tokenizer = train_tokenizer()
    paths = []
    for name, files in MODELS.items():
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(path / "tokenizer.json"))
        (path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        for file, content in (SHARED | files).items():
            (path / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_models.py FOLDER")
    for made in make_models(Path(sys.argv[1])):
        print(made)

"""Every decoder of transformers that can be built small: its text is the same, or it is refused."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging

from attar.decode.drafters import Proposal
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError

VOCAB, MOST = 64, 5_000_000
#: names of settings, and their value where a config has them
_SIZES = {
    "vocab_size text_vocab_size n_words vocab_size_per_layer_input": VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers": 2,
    "hidden_size n_embd d_model dim_model emb_dim embedding_size embed_dim word_embed_proj_dim": 32,
    "attention_hidden_size lru_width lora_rank": 32,
    "num_attention_heads n_head n_heads num_heads decoder_attention_heads": 4,
    "num_decoder_attention_heads mamba_n_heads mamba_num_heads n_mamba_heads": 4,
    "num_key_value_heads num_global_key_value_heads swa_num_key_value_heads": 2,
    "head_dim global_head_dim swa_head_dim kv_channels attention_head_dim dim_head v_head_dim": 8,
    "qk_head_dim qk_rope_head_dim qk_nope_head_dim linear_key_head_dim linear_value_head_dim": 8,
    "intermediate_size ffn_dim n_inner decoder_ffn_dim d_inner ff_dim dim_ff dff d_ff": 48,
    "shared_intermediate_size ffn_hidden_size": 48,
    "max_position_embeddings n_positions n_ctx max_seq_len": 128,
    "sliding_window sliding_window_size window_size attention_window_size local_attention": 8,
    "attention_chunk_size index_topk hidden_size_per_layer_input": 8,
    "num_experts num_local_experts n_routed_experts moe_num_experts rotary_dim rotary_ndims": 4,
    "num_experts_per_tok num_experts_per_token moe_topk moe_k index_n_heads": 2,
    "moe_intermediate_size expert_ffn_hidden_size intermediate_size_mlp index_head_dim": 16,
    "q_lora_rank kv_lora_rank o_lora_rank mamba_d_head mamba_head_dim": 16,
    "n_group topk_group num_expert_groups first_k_dense_replace num_codebooks": 1,
    "mamba_n_groups n_groups num_nextn_predict_layers attn_layer_offset": 1,
    "mamba_expand expand linear_num_value_heads linear_num_key_heads attn_layer_period": 2,
    "mamba_d_ssm": 64,
    "mamba_d_state state_size ssm_state_size mamba_dt_rank": 8,
    "num_kv_shared_layers": 0,
}
_SMALL = {name: value for names, value in _SIZES.items() for name in names.split()}
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "zaya": {"num_experts_per_tok": 1},
}
#: one of each kind: a window in the mask alone, no cache, a state under its own name, more than
#: keys and values, a decoder less deep than its encoder, rotary embeddings of some layers, one by
#: one
KINDS = ["gpt_neo", "openai-gpt", "rwkv", "xlnet", "cpmant", "falcon_h1", "hy_v4", "deepseek_v4"]
KINDS += ["bart", "beam", "prophetnet", "moshi"]
SAME = {"gpt_neo", "bart", "beam"}


def settings(kind: Any) -> dict[str, Any]:
    """Settings that make a config small, and those of its parts."""
    default = kind()
    names = set(default.to_dict()) | {"pad_token_id", "bos_token_id", "eos_token_id"}
    free = {name for name in names if not isinstance(getattr(kind, name, None), property)}
    given = {name: value for name, value in _SMALL.items() if name in free}
    if "kv_lora_rank" in names:
        given["num_key_value_heads"] = 4
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = getattr(default, name, None)
        if name in free and isinstance(kinds, list) and kinds and isinstance(kinds[0], str):
            given[name] = (list(dict.fromkeys(kinds)) * 2)[:2]
    for name in kind.sub_configs or {}:
        if (part := getattr(default, name, None)) is not None:
            given[name] = settings(type(part))
    return given | _OWN.get(default.model_type, {})


def built(kind: Any) -> PreTrainedModel | None:
    """A small random model; None where these settings make none."""
    made: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    try:
        config = kind(**settings(kind))
        if hasattr(config, "is_decoder"):
            config.is_decoder = True
        with torch.device("meta"):
            if sum(p.numel() for p in made._from_config(config).parameters()) > MOST:
                return None
        torch.manual_seed(0)
        try:
            model = made._from_config(config, experts_implementation="eager")
        except ValueError:
            model = made._from_config(config)
    except Exception:  # a config that knows other rules than these
        return None
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape)
            p.copy_(0.2 * noise if p.dim() > 1 else p + 0.1 * noise)
    return model.eval()


class Erring:
    """Proposes what is right, and often something else."""

    def __init__(self, texts: list[list[int]]) -> None:
        self.texts, self.rng = texts, random.Random(0)

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        self.left = [text[len(pads) :] for text, pads in zip(self.texts, padding, strict=True)]

    def propose(self, rows: Sequence[Sequence[int]], counts: Sequence[int], **_: Any) -> Proposal:
        return Proposal(
            [
                [(token + (self.rng.random() > 0.7)) % VOCAB for token in text[len(row) :][:count]]
                for text, row, count in zip(self.left, rows, counts, strict=True)
            ],
            None,
            0,
        )

    def keep(self, lengths: Sequence[int]) -> None:
        pass

    def select(self, rows: Sequence[int]) -> None:
        self.left = [self.left[row] for row in rows]


def plain(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor | None:
    """The target's own text in float64, or else in float32; None where it writes none."""
    for dtype in (torch.float64, torch.float32):
        try:
            out = model.to(dtype).generate(
                ids, return_dict_in_generate=True, output_logits=True, **options
            )
        except Exception:  # of transformers
            continue
        if all(bool(torch.isfinite(step).all()) for step in out.logits):
            return out.sequences
    return None


def outcome(kind: Any) -> str:
    """What becomes of a family, for one prompt and for a padded batch."""
    if (model := built(kind)) is None:
        return "not built"
    found = []
    for lengths in ([11], [11, 5, 8]):
        ids = torch.randint(
            3, VOCAB, (len(lengths), 11), generator=torch.Generator().manual_seed(1)
        )
        mask = torch.stack([(torch.arange(11) >= 11 - n).long() for n in lengths])
        options: dict[str, Any] = {"max_new_tokens": 14, "do_sample": False, "attention_mask": mask}
        # each token once, so that no text repeats itself and hides what is wrong
        options |= {"pad_token_id": 0, "eos_token_id": None, "no_repeat_ngram_size": 1}
        wanted = plain(model, ids * mask, **options)
        if wanted is None:
            return "not built"
        config = SpecConfig(policy="constant", draft_tokens=4)
        drafter: Any = Erring(wanted.tolist())
        decoder = SpeculativeDecoder(model, drafter, config=config)
        try:
            written = decoder.generate(ids * mask, **options).sequences
        except CompatibilityError as error:
            found.append("refused" if str(error).count("\n") == 0 else str(error))
        except Exception as error:
            found.append(repr(error))
        else:
            found.append("equal" if written.tolist() == wanted.tolist() else "different")
    return found[0] if len(set(found)) == 1 else str(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_one_family_of_each_kind(name: str) -> None:
    assert outcome(CONFIG_MAPPING[name]) == ("equal" if name in SAME else "refused")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_family() -> None:
    logging.set_verbosity_error()
    outcomes = {kind.model_type: outcome(kind) for kind in MODEL_FOR_CAUSAL_LM_MAPPING}
    counts = Counter(outcomes.values())
    wrong = {k: v for k, v in outcomes.items() if v not in ("equal", "refused", "not built")}
    assert not wrong
    assert counts["equal"] >= 120
    assert counts["refused"] >= 25
    assert counts["not built"] <= 35

"""A base model small enough to train in a second, with a tokenizer and a chat template of its own."""

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROWS = [
    ("What colour is the door?", "Green."),
    ("Who has the key?", "The night watch has it."),
    ("When does the shop close?", "At six."),
    ("Is there a bell?", "Yes, above the door, and it is loud."),
    ("Where is the ladder?", "Behind the shed."),
]


def make_base(folder: Path, *, fragile: bool = False) -> Path:
    """Write a random two-layer Llama over bytes into `folder`; the same one every time.

    What it says is hardly better than a guess, and never much worse, whatever is trained.  A `fragile` one has a head
    that makes it very sure of something, once what it adds to its hidden states has been moved far.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1, **{char: index + 2 for index, char in enumerate(alphabet)}}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<|im_start|>", eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=not fragile,
    )
    model = LlamaForCausalLM(config)
    if fragile:
        with torch.no_grad():
            # Half of the hidden state is empty, and the head makes much of it.
            half = config.hidden_size // 2
            model.model.embed_tokens.weight[:, half:] = 0.0
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight[half:] = 0.0
                layer.mlp.down_proj.weight[half:] = 0.0
            model.lm_head.weight[:, half:] *= 200.0
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def rows_text(copies: int = 2) -> str:
    """The rows as JSON Lines."""
    import json

    pairs = [{"prompt": prompt, "completion": completion} for prompt, completion in ROWS * copies]
    return "".join(json.dumps(pair) + "\n" for pair in pairs)

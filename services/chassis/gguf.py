"""GGUF weights once de-quantised to bf16 safetensors, as ``python -m services.chassis.gguf FILE FOLDER``.

A child process of its own, so that a service that needs only the result never
holds torch, and so that a failure half-way leaves nothing but a temporary folder.
Exit status: 0 done, 28 (ENOSPC) no space left, 1 anything else.
"""

import errno
import os
import sys
from pathlib import Path


def dequantise(source: Path, folder: Path) -> None:
    """Write the model in ``source`` to ``folder`` as transformers saves it, tokenizer and chat template included."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent),
        gguf_file=source.name,
        dtype=torch.bfloat16,
        # Without this the weights stay packed, and what is packed cannot be saved.
        quantization_config=GgufConfig(dequantize=True),
    )
    # The weights are plain now, but the model still remembers how it was read, and saving refuses for that.
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer = None
    model.is_quantized = False
    model.generation_config.do_sample = False
    # A GGUF tokenizer knows no limit; unlimited, it would let prompts past the model's last position.
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not tokenizer.chat_template:
        sys.stderr.write(f"warning: {source.name} carries no chat template\n")
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> int:
    """Run :func:`dequantise` on the two arguments."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    source, folder = (Path(argument) for argument in sys.argv[1:3])
    try:
        dequantise(source, folder)
    except Exception as error:
        # The safetensors library reports a full disk as text inside an error of its own.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return errno.ENOSPC if full else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

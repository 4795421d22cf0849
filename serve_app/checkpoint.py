"""The demo model: a tiny Llama made here in seconds, random weights, so that real vLLM runs without a download."""

from pathlib import Path

CONTEXT_TOKENS = 2_048
VOCABULARY = 2_048
CHAT_TEMPLATE = (
    "{% if tools %}<|system|>Tools: {{ tools | tojson }} Call one as <tool_call>{...}</tool_call><|end|>{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] or '' }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|developer|>"]


def ensure_demo(folder: Path) -> Path:
    """The checkpoint's folder, made where it is not there. Its text is noise: it proves the machine, not the model."""
    if (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    save_weights(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    bpe.train_from_iterator(
        (file.read_text() for file in sources), vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = CONTEXT_TOKENS
    tokenizer.save_pretrained(folder)


def save_weights(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)

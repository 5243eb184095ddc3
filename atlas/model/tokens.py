"""Which texts a model can read: those of which training has seen a token."""

from collections.abc import Callable, Sequence

from open_clip.tokenizer import SimpleTokenizer
from torch import nn


def untrained_texts(model: nn.Module, tokenizer: Callable, texts: Sequence[str]) -> list[str]:
    """The texts of which the model has learned no token: training left all their token embeddings at zero.

    An empty list for towers without CLIP's tokenizer, or without a table of token embeddings by its usual name.
    """
    tables = (module for name, module in model.named_modules() if name.rpartition(".")[2] == "token_embedding")
    table = next((module for module in tables if isinstance(module, nn.Embedding)), None)
    if table is None or not isinstance(tokenizer, SimpleTokenizer):
        return []
    known = table.weight.detach().any(1).cpu().numpy()
    return [text for text in texts if not known[tokenizer.encode(text)].any()]

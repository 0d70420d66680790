"""Text classifiers of transformers and spaCy as functions from a list of strings to labels; scores end here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.errors import InputError, TargetError
from labelleaks.targets.base import qualified_name
from labelleaks.targets.pipelines import is_image_pipeline

__all__ = ["TextClassifier", "adapted"]


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A classifier of texts that is asked as its own users ask it: a list of strings in, one label a string out."""

    answer: Callable[[list[str]], Any]
    names: tuple[str, ...]
    """Its labels, in the order of its outputs."""
    fingerprint: str
    """Hash of its weights, equal for equal ones."""
    what: str
    """Name of what answers."""

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.answer(list(texts))


def adapted(target: Any) -> Any:
    """Return a transformers pipeline, a pair (model, tokenizer) or a spaCy pipeline as one function; all else as it is.

    Raises:
        InputError: a pipeline of another task, a tokenizer without its model, a spaCy pipeline without one textcat.
    """
    if isinstance(target, TextClassifier) or is_image_pipeline(target):
        return target
    if isinstance(target, tuple):
        return _pair(target)
    if all(hasattr(target, member) for member in ("task", "model", "tokenizer")) and callable(target):
        return _pipeline(target)
    if all(hasattr(target, member) for member in ("pipe", "pipe_names", "vocab")) and callable(target):
        return _spacy(target)
    return target


def _pipeline(pipeline: Any) -> TextClassifier:
    """A transformers pipeline, with its own batching and truncation."""
    if pipeline.task not in ("text-classification", "sentiment-analysis"):
        raise InputError(
            f"target: a transformers pipeline for {pipeline.task!r}: text- or image-classification is needed; "
            "wrap another one in a function from a list of strings to labels"
        )

    def answer(texts: list[str]) -> list[str]:
        return [_best(scored) for scored in pipeline(texts)]

    return TextClassifier(answer, _names(pipeline.model), _hash(pipeline.model), qualified_name(pipeline))


def _best(scored: Any) -> str:
    """The label of one answer: {label, score}, or a list of them (top_k=)."""
    ranked = [scored] if isinstance(scored, Mapping) else list(scored)
    try:
        return str(max(ranked, key=lambda each: each["score"])["label"])
    except (TypeError, KeyError, ValueError):
        raise TargetError(f"the pipeline answered {str(scored)[:80]!r} to a text, {{label, score}} is needed") from None


def _pair(target: tuple[Any, ...]) -> TextClassifier:
    """A transformers model and its tokenizer, which truncates as it is set to (``model_max_length``)."""
    models = [part for part in target if isinstance(part, nn.Module)]
    tokenizers = [part for part in target if callable(part) and hasattr(part, "model_max_length")]
    if len(target) != 2 or len(models) != 1 or len(tokenizers) != 1:
        raise InputError(
            f"target: a tuple of {', '.join(type(part).__name__ for part in target)}: a transformers model and its "
            "tokenizer are needed, (model, tokenizer)"
        )
    (model,), (tokenizer,) = models, tokenizers

    def answer(texts: list[str]) -> Tensor:
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        place = next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                logits: Tensor = model(**{name: values.to(place) for name, values in inputs.items()}).logits
        finally:
            model.train(was_training)
        return logits.float().cpu()

    return TextClassifier(answer, _names(model), _hash(model), qualified_name(model))


def _names(model: Any) -> tuple[str, ...]:
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or len(names) < 2:
        raise InputError(
            f"target: {type(model).__name__} names no labels (config.id2label): give a function from a list of strings "
            "to labels"
        )
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _hash(model: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, weights in model.state_dict().items():
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype} ".encode())
        digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _spacy(nlp: Any) -> TextClassifier:
    """A spaCy pipeline with one ``textcat``, whose labels exclude each other."""
    if "textcat" not in nlp.pipe_names:
        raise InputError(
            f"target: a spaCy pipeline of {', '.join(nlp.pipe_names)}: a component textcat is needed, which gives one "
            "label a text; of another one make a function from a list of strings to labels"
        )
    names = tuple(map(str, nlp.get_pipe("textcat").labels))

    def answer(texts: list[str]) -> list[str]:
        return [max(doc.cats, key=doc.cats.get) for doc in nlp.pipe(texts)]

    digest = hashlib.blake2b(nlp.to_bytes(), digest_size=16).hexdigest()
    return TextClassifier(answer, names, digest, qualified_name(nlp))

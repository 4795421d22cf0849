"""Models of names that are not Manta's own: real pipelines, made here and as small as they can be."""

from pathlib import Path

import pytest
import spacy
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from serve_app.adapters.named_entities import SpacyNames, TransformerNames, name_finder
from serve_app.adapters.presidio import PresidioScreener
from serve_app.policy import GuardrailSettings


@pytest.fixture
def spacy_model(tmp_path: Path) -> str:
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PER", "pattern": "Jane"}, {"label": "ORG", "pattern": "Acme"}])
    ruler.add_patterns([{"label": "DATE", "pattern": "today"}])
    pipeline.to_disk(tmp_path)
    return str(tmp_path)


@pytest.fixture(scope="module")
def transformer_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Calls every word a person, having learned nothing."""
    folder = tmp_path_factory.mktemp("transformer")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "jane", "works"]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    labels = {0: "O", 1: "B-PER", 2: "B-MISC"}
    config = BertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, id2label=labels
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    model.save_pretrained(folder)
    return str(folder)


def test_a_spacy_pipeline_names_in_its_words_and_we_in_ours(spacy_model: str) -> None:
    text = "Today Jane of Acme came today"
    found = SpacyNames(spacy_model, "en").find(text)
    assert [(f.kind, text[f.start : f.end]) for f in found] == [("PERSON", "Jane"), ("ORGANIZATION", "Acme")]


def test_a_spacy_pipeline_can_be_configured(spacy_model: str) -> None:
    screener = PresidioScreener(GuardrailSettings(names=f"spacy:{spacy_model}"))
    text = "Jane, jane@example.com"
    assert [finding.kind for finding in screener.examine(text).findings] == ["PERSON", "EMAIL_ADDRESS"]


def test_a_token_classifier_can_be_configured(transformer_model: str) -> None:
    found = name_finder(f"transformers:{transformer_model}", ("en",)).find("jane works")
    assert [(finding.kind, finding.start, finding.end) for finding in found] in (
        [("PERSON", 0, 10)],
        [("PERSON", 0, 4), ("PERSON", 5, 10)],
    )
    assert all(finding.score > 0.9 for finding in found)


def test_a_token_classifier_that_breaks_is_not_taken_for_a_text_without_names(transformer_model: str) -> None:
    finder = TransformerNames(transformer_model, "en")
    broken: object = 3
    with pytest.raises((TypeError, ValueError, AttributeError)):
        finder.find(broken)  # type: ignore[arg-type]


def test_off_finds_nothing() -> None:
    assert name_finder("off", ("en",)).find("Jane Kowalski") == ()

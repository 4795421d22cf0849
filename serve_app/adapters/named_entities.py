"""What finds names: the model that comes with Manta, nothing, or one of Presidio's engines over an installed model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import spacy
from huggingface_hub import try_to_load_from_cache
from presidio_analyzer import RecognizerResult
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers.ner import HuggingFaceNerRecognizer

from serve_app.adapters.crfsuite import NameModel, NameTagger
from serve_app.policy import NAMES
from serve_app.turn import Finding

ENTITIES: Mapping[str, str] = {
    **dict.fromkeys(("PERSON", "PER", "PS", "NAME", "PATIENT", "STAFF", "HCW", "DOCTOR", "USERNAME"), "PERSON"),
    **dict.fromkeys(("GPE", "LOC", "LOCATION", "CITY", "STATE", "COUNTRY", "LC"), "GPE"),
    **dict.fromkeys(("ORG", "ORGANIZATION", "HOSP", "OG", "COMPANY", "PATORG", "VENDOR"), "ORGANIZATION"),
    **dict.fromkeys(("FAC", "ADDRESS", "STREET", "STREET_ADDRESS", "STREETADDRESS"), "STREET_ADDRESS"),
}
"""Ours for the labels that spaCy's and Hugging Face's models use; what else they label is left."""

IGNORED = (
    *("CARDINAL", "DATE", "EVENT", "LANGUAGE", "LAW", "MISC", "MONEY", "NORP", "ORDINAL", "PERCENT", "PRODUCT"),
    *("QUANTITY", "TIME", "WORK_OF_ART"),
)
"""Presidio warns of every other label at every text."""


class NameFinder(Protocol):
    def find(self, text: str) -> Sequence[Finding]:
        """In the order of the text, not overlapping."""
        ...


class NoNames:
    def find(self, text: str) -> Sequence[Finding]:
        return ()


class SpacyNames:
    """A spaCy pipeline, run by Presidio's engine."""

    def __init__(self, model: str, language: str) -> None:
        """Raises ValueError for a model that is not installed; Presidio would fetch it from the network."""
        if not (spacy.util.is_package(model) or Path(model).exists()):
            raise ValueError(
                f"guardrail.names: the spaCy model {model!r} is not installed; run `python -m spacy download {model}`, "
                "give the folder of a pipeline, or set `names: crf`"
            )
        labels = NerModelConfiguration(
            model_to_presidio_entity_mapping=dict(ENTITIES), labels_to_ignore=IGNORED, default_score=0.85
        )
        self._engine = SpacyNlpEngine([{"lang_code": language, "model_name": model}], labels)
        self._engine.load()
        self._language = language

    def find(self, text: str) -> Sequence[Finding]:
        artifacts = self._engine.process_text(text, self._language)
        found = zip(artifacts.entities, artifacts.scores, strict=True)
        return [
            Finding(entity.label_, entity.start_char, entity.end_char, float(score))
            for entity, score in found
            if entity.label_ in NAMES
        ]


class TransformerNames:
    """A token classification model of Hugging Face, loaded and cut into chunks by Presidio's recognizer."""

    def __init__(self, model: str, language: str) -> None:
        """Raises ValueError for a model that is not on this machine; Presidio would fetch it from the network."""
        if not Path(model).exists() and not isinstance(try_to_load_from_cache(model, "config.json"), str):
            raise ValueError(
                f"guardrail.names: the model {model!r} is not on this machine; fetch it with `hf download {model}`, "
                "give the folder it lies in, or set `names: crf`"
            )
        self._recognizer = HuggingFaceNerRecognizer(model_name=model, supported_language=language, device="cpu")
        self._recognizer.load()

    def find(self, text: str) -> Sequence[Finding]:
        found = self._recognizer.text_chunker.predict_with_chunking(text, self._chunk)
        findings = (Finding(result.entity_type, result.start, result.end, result.score) for result in found)
        return sorted(findings, key=lambda finding: (finding.start, -finding.end))

    def _chunk(self, text: str) -> list[RecognizerResult]:
        """Presidio's own takes a chunk that failed for one without names; here the failure goes up."""
        labelled = ((entity["entity_group"].upper(), entity) for entity in self._recognizer.ner_pipeline(text))
        return [
            RecognizerResult(ENTITIES[label], entity["start"], entity["end"], float(entity["score"]))
            for label, entity in labelled
            if label in ENTITIES
        ]


def name_finder(names: str, languages: Sequence[str]) -> NameFinder:
    """By `guardrail.names`. Raises ValueError for a model that is not installed."""
    engine, _, model = names.partition(":")
    if engine == "spacy":
        return SpacyNames(model, languages[0])
    if engine == "transformers":
        return TransformerNames(model, languages[0])
    return NoNames() if engine == "off" else NameTagger(NameModel.load())

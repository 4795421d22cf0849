"""What may pass the guardrail, by policy: the part of the configuration schema that says what is screened."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from serve_app.section import Fraction, Section

ATTACKS = ("prompt_injection", "jailbreak")
HARMS = ("hate", "harassment", "self-harm", "violence", "illicit", "sexual")
INDIRECT = "indirect_injection"
"""An instruction in a passage or a tool result."""
CATEGORIES = (*ATTACKS, *HARMS, INDIRECT)

NAMES = ("PERSON", "STREET_ADDRESS", "ORGANIZATION", "GPE")
"""Entities found by a model of names, where all others have patterns."""
STRUCTURED = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS", "API_KEY")

Action = Literal["allow", "mask", "block"]
"""allow: found and reported, but left alone. mask: an engine reads `<PERSON_1>`. block: the text is refused."""


ACTIONS: dict[str, Action] = {
    "PERSON": "mask",
    "STREET_ADDRESS": "mask",
    "ORGANIZATION": "allow",
    "GPE": "allow",
    **dict.fromkeys(STRUCTURED, "mask"),
}


class LexiconSettings(Section):
    """An entity of one's own: words, or a pattern."""

    kind: str = Field(pattern="^[A-Z][A-Z0-9_]*$")
    """Its name in `entities`, in findings and in placeholders."""
    words: tuple[str, ...] = ()
    """Found whole, in any case."""
    pattern: str | None = None
    """A regular expression in RE2's syntax: no look-around and no back-references, so no text makes it slow."""

    @model_validator(mode="after")
    def _finds_something(self) -> Self:
        if not self.words and not self.pattern:
            raise ValueError(f"lexicon {self.kind}: give `words`, a `pattern`, or both")
        return self


class PolicySettings(Section):
    """What one kind of tenant may say and hear."""

    entities: dict[str, Action] = {}
    """What to do with each entity on its way to an engine. Those not named keep their default: organisations and
    places are allowed, everything else, lexicons too, is masked."""
    answer_entities: tuple[str, ...] = STRUCTURED
    """Entities masked in an answer, unless the caller sent or was given the value. With names or entities of one's
    own among them an answer leaves sentence by sentence, and an answer that may not name anybody is rarely one."""
    lexicons: tuple[LexiconSettings, ...] = ()
    thresholds: dict[str, Fraction | None] = {}
    """Refuse at or above this probability, by category; null never; categories not named take the shipped threshold."""
    deny: tuple[str, ...] = ()
    """Phrases that neither a question nor an answer may contain, however they are written."""
    safe_messages: dict[str, str] = {}
    """Answered instead of a refusal, by harm category: `self-harm: Please call ...`."""
    poisoned: Literal["drop", "fence"] = "drop"
    """What becomes of a passage or tool result with an instruction in it: left out, or quoted behind a warning."""
    leak_words: int | None = Field(default=12, ge=6)
    """Consecutive words of the system prompt that an answer may not repeat; null lets it."""

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults(cls, given: Any) -> Any:
        """One entity more or less strict must not switch off all others."""
        if not isinstance(given, dict) or not isinstance(entities := given.get("entities") or {}, dict):
            return given
        lexicons = [LexiconSettings.model_validate(lexicon) for lexicon in given.get("lexicons") or ()]
        own = dict.fromkeys((lexicon.kind for lexicon in lexicons), "mask")
        return {**given, "entities": {**ACTIONS, **own, **entities}}

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for field, known in (("thresholds", CATEGORIES), ("safe_messages", HARMS)):
            for name in getattr(self, field):
                if name not in known:
                    raise ValueError(f"{field}: there is no category {name!r}; categories are {', '.join(known)}")
        kinds = {*NAMES, *STRUCTURED, *(lexicon.kind for lexicon in self.lexicons)}
        for field in ("entities", "answer_entities"):
            for kind in getattr(self, field):
                if kind not in kinds:
                    raise ValueError(f"{field}: nothing finds {kind!r}; entities are {', '.join(sorted(kinds))}")
        return self


class SessionSettings(Section):
    """Where placeholders are remembered between the turns of a conversation."""

    redis_url_env: str | None = None
    """Environment variable with the URL of a Redis server; None keeps them in the memory of one ingress replica."""
    ttl_s: int = Field(default=3_600, gt=0)
    """Forgotten this long after the conversation's last turn."""


class GuardrailSettings(Section):
    policies: dict[str, PolicySettings] = {"default": PolicySettings()}
    tenants: dict[str, str] = {}
    """Policy by tenant; tenants that do not stand here have `default`."""
    names: str = Field(default="crf", pattern="^(crf|off|(spacy|transformers):.+)$")
    """What finds names: the model that comes with Manta, or an installed one, `spacy:en_core_web_lg`."""
    languages: tuple[str, ...] = Field(default=("en", "de"), min_length=1)
    min_score: Fraction = 0.4
    """Findings Presidio is less sure of are ignored."""
    sessions: SessionSettings = SessionSettings()
    classifier_down: Literal["pass", "refuse"] = "pass"
    """Without the classifier, lexical rules alone decide on attacks (and a header says so), or nothing passes."""
    window_chars: int = Field(default=256, ge=64)
    """Most characters of an answer held back while they could still become a finding."""
    deadline_ms: int = Field(default=10_000, gt=0)
    """Wait for the screener, and for a new one in place of one that died, before the answer is a 503."""

    @model_validator(mode="after")
    def _policies_exist(self) -> Self:
        if "default" not in self.policies:
            raise ValueError("policies: one must be named 'default', for tenants that `tenants` does not name")
        for tenant, policy in self.tenants.items():
            if policy not in self.policies:
                raise ValueError(
                    f"tenants.{tenant}: there is no policy {policy!r}; policies are {', '.join(sorted(self.policies))}"
                )
        return self

    def policy_of(self, tenant: str) -> str:
        """Name of the tenant's policy."""
        return self.tenants.get(tenant, "default")

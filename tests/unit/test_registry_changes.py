"""What becomes of the registry when an operator, or the gateway's config, changes it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import Conflict, InvalidRequest, MantaError, NotFound
from serve_app.registry.adopt import adopt
from serve_app.registry.applied import apply
from serve_app.registry.changes import deregister, disable, enable, register, weigh
from serve_app.registry.checked import Checked
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit, Decide, Snapshot
from serve_app.rollout import changes as rollouts
from tests.builders import begun, registered

FINE = CheckResult(steps={"health": "ok"})
EMPTY = Snapshot()
DIGEST = f"sha256:{'a' * 64}"


def registration(version: str = "1", **said: Any) -> Registration:
    return Registration.model_validate({"model": "llama", "version": version, "endpoint": "serve://llama"} | said)


def key(version: str = "1") -> Key:
    return "llama", version, "development"


def after(snapshot: Snapshot, *decisions: Decide) -> Snapshot:
    for decide in decisions:
        change = decide(snapshot)
        if not change.is_empty:
            snapshot = apply(change, snapshot, at=1.0, first_audit=1).snapshot
    return snapshot


def checked(asked: Registration, snapshot: Snapshot = EMPTY, result: CheckResult = FINE) -> Decide:
    return register(asked, Checked(asked.onto(snapshot.find(asked.key)), result), who="ann")


def unchecked(asked: Registration) -> Decide:
    return register(asked, None, who="ann")


def weights(snapshot: Snapshot) -> dict[str, int]:
    return {entry.version: entry.weight for entry in snapshot.entries if entry.is_enabled}


def holding(*entries: ModelEntry) -> Snapshot:
    return Snapshot(revision=1, entries=tuple(sorted(entries, key=lambda one: one.key)))


def declared(version: str = "1", **changes: Any) -> ModelEntry:
    return registered(version, source="config", **changes)


def adopted(snapshot: Snapshot, *entries: ModelEntry) -> Snapshot:
    return after(snapshot, adopt(entries, "development", who="config"))


def test_the_first_version_takes_all_and_the_next_nothing() -> None:
    snapshot = after(Snapshot(), checked(registration("1")), checked(registration("2")))
    assert weights(snapshot) == {"1": 100, "2": 0}


def test_a_weight_is_taken_as_it_is_said() -> None:
    snapshot = after(Snapshot(), checked(registration("1", weight=90)), checked(registration("2", weight=10)))
    assert weights(snapshot) == {"1": 90, "2": 10}


def test_an_unchecked_version_waits_until_it_is_enabled() -> None:
    waiting = after(Snapshot(), unchecked(registration(engine="vllm")))
    assert waiting.entries[0].status == "registered"
    assert waiting.entries[0].weight == 0
    assert weights(after(waiting, enable(key(), None, who="ann"))) == {"1": 100}


def test_what_was_not_said_keeps_its_value() -> None:
    known = registered(licence="Apache-2.0", weight=70, context_tokens=4_096, capabilities=frozenset({"tools"}))
    [now] = after(holding(known), checked(registration(owner="team-a"), holding(known))).entries
    assert now == replace(known, owner="team-a")


def test_what_was_emptied_is_empty() -> None:
    known = registered(licence="MIT", capabilities=frozenset({"tools"}))
    [now] = after(holding(known), checked(registration(licence="", capabilities=()), holding(known))).entries
    assert (now.licence, now.capabilities) == ("", frozenset())


def test_registering_the_same_again_changes_nothing() -> None:
    snapshot = after(Snapshot(), checked(registration()))
    assert checked(registration(), snapshot)(snapshot).is_empty


def test_a_new_version_is_filled_with_what_its_endpoint_says() -> None:
    said = CheckResult(steps={}, served_names=("meta/llama-3",), engine="extractive", context_tokens=32_768)
    [now] = after(Snapshot(), checked(registration(), result=said)).entries
    assert (now.engine, now.served_name, now.context_tokens) == ("extractive", "meta/llama-3", 32_768)


@pytest.mark.parametrize(
    ("said", "capabilities"),
    [
        ({"engine": "vllm"}, {"tools", "json"}),
        ({"endpoint": "http://a"}, {"tools", "json"}),
        ({"engine": "extractive"}, set()),
        ({"engine": "vllm", "capabilities": ["json"]}, {"json"}),
        ({"engine": "vllm", "capabilities": []}, set()),
    ],
)
def test_an_engine_can_what_is_said_else_what_its_kind_can(said: dict[str, Any], capabilities: set[str]) -> None:
    assert after(Snapshot(), unchecked(registration(**said))).entries[0].capabilities == capabilities


def test_what_a_check_saw_stands_in_the_history() -> None:
    said = CheckResult(steps={"health": "200"}, seconds=0.25, figures={"first_token_ms": 12.0})
    change = checked(registration(), result=said)(Snapshot())
    assert change.figures == {"checked": {"health": "200"}, "seconds": 0.25, "first_token_ms": 12.0}


def test_what_was_said_stands_over_what_the_endpoint_says() -> None:
    said = CheckResult(steps={}, served_names=("meta/llama-3",), engine="vllm", context_tokens=32_768)
    asked = registration(engine="extractive", served_name="other", context_tokens=1_024)
    [now] = after(Snapshot(), checked(asked, result=said)).entries
    assert (now.engine, now.served_name, now.context_tokens) == ("extractive", "other", 1_024)


def test_the_model_is_served_by_its_own_name_where_there_are_several() -> None:
    said = CheckResult(steps={}, served_names=("mistral", "llama"))
    assert after(Snapshot(), checked(registration(), result=said)).entries[0].served_name == ""


def test_an_endpoint_without_the_model_is_refused_with_its_names() -> None:
    said = CheckResult(steps={}, served_names=("mistral", "qwen"))
    with pytest.raises(InvalidRequest, match="serves mistral, qwen and none is called 'llama'"):
        checked(registration(), result=said)(Snapshot())


def test_an_http_endpoint_is_spoken_to_as_openai_and_sees_redacted_text() -> None:
    said = CheckResult(steps={}, engine="vllm")
    asked = registration(endpoint="https://llm.example:8443/api/")
    [now] = after(Snapshot(), checked(asked, result=said)).entries
    assert (now.engine, now.egress, now.endpoint) == ("openai", "redacted", "https://llm.example:8443/api")


def test_a_version_that_moves_to_http_sees_redacted_text_and_keeps_its_facts() -> None:
    known = registered(served_name="there", licence="MIT")
    asked = registration(endpoint="http://vllm.example")
    [now] = after(holding(known), checked(asked, holding(known))).entries
    assert (now.engine, now.egress, now.served_name, now.licence) == ("openai", "redacted", "", "MIT")


def test_a_version_that_moves_is_filled_with_what_its_new_endpoint_says() -> None:
    known = registered(served_name="there", context_tokens=4_096)
    said = CheckResult(steps={}, served_names=("elsewhere",), engine="vllm", context_tokens=32_768)
    asked = registration(endpoint="serve://other")
    [now] = after(holding(known), checked(asked, holding(known), said)).entries
    assert (now.served_name, now.context_tokens) == ("elsewhere", 32_768)
    [same] = after(holding(known), checked(registration(owner="a"), holding(known), said)).entries
    assert (same.served_name, same.context_tokens) == ("there", 4_096)


def test_another_host_gets_neither_the_key_nor_the_text_of_the_one_before() -> None:
    known = registered(endpoint="https://a", engine="openai", egress="raw", key_env="A_API_KEY", served_name="there")
    [now] = after(holding(known), unchecked(registration(endpoint="https://b"))).entries
    assert (now.egress, now.key_env, now.served_name) == ("redacted", "", "")
    [same] = after(holding(known), unchecked(registration(endpoint="https://a/"))).entries
    assert same == known


def test_an_enabled_version_that_moves_unchecked_is_no_longer_routed_to() -> None:
    [now] = after(holding(registered()), unchecked(registration(endpoint="serve://other"))).entries
    assert now.status == "registered"
    [same] = after(holding(registered()), unchecked(registration(owner="team-a"))).entries
    assert same.status == "enabled"


def test_other_weights_have_an_unknown_signature() -> None:
    known = registered(digest=DIGEST, signature="verified")
    [now] = after(holding(known), unchecked(registration(digest=f"SHA256:{'B' * 64}"))).entries
    assert (now.digest, now.signature) == (f"sha256:{'b' * 64}", "unknown")


def test_an_endpoint_that_was_moved_while_it_was_checked_is_a_conflict() -> None:
    decide = checked(registration(endpoint=None), holding(registered()))
    with pytest.raises(Conflict, match="was moved to serve://elsewhere while serve://llama was checked"):
        decide(holding(registered(endpoint="serve://elsewhere")))


def test_every_field_of_an_entry_goes_to_another_environment() -> None:
    known = registered(digest=DIGEST, signature="signed", prompt_price=1.5, capabilities=frozenset({"json"}), owner="a")
    asked = Registration.of(known, environment="production", weight=0)
    snapshot = after(Snapshot(), unchecked(asked))
    assert snapshot.entries == (replace(known, environment="production", weight=0, status="registered"),)


def test_a_name_that_only_a_config_could_give_goes_nowhere_else() -> None:
    with pytest.raises(InvalidRequest, match="model: must be 1 to 200 printable ASCII characters"):
        Registration.of(registered(model="größe"), environment="production")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"endpoint": None}, "llama@1 is not registered in development yet; say where it runs"),
        ({"engine": None}, "say 'vllm' or 'extractive', or let it be checked"),
        ({"engine": "openai"}, "'openai' is for http"),
        ({"endpoint": "http://a", "engine": "vllm"}, "an HTTP endpoint is spoken to as 'openai'"),
        ({"key_env": "SAAS_API_KEY", "engine": "vllm"}, "an application of this cluster needs no key"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        unchecked(registration(**said))(Snapshot())


@pytest.mark.parametrize("change", [disable(key("2"), who="ann"), weigh(key("2"), 0, who="ann")])
def test_weights_never_sum_to_nothing(change: Decide) -> None:
    with pytest.raises(InvalidRequest, match="no enabled version of llama in development would have a weight above 0"):
        change(holding(registered("1", weight=0), registered("2"), registered("3", weight=0)))


def test_an_only_version_cannot_be_without_weight() -> None:
    with pytest.raises(InvalidRequest, match="no enabled version of llama"):
        checked(registration(weight=0))(Snapshot())


def test_the_last_enabled_version_may_be_disabled_and_keeps_its_weight() -> None:
    snapshot = after(holding(registered(weight=60)), disable(key(), who="ann"))
    assert (snapshot.entries[0].status, snapshot.entries[0].weight) == ("disabled", 60)
    assert weights(after(snapshot, enable(key(), None, who="ann"))) == {"1": 60}
    assert weights(after(snapshot, enable(key(), None, weight=5, who="ann"))) == {"1": 5}


def test_a_version_is_taken_out() -> None:
    snapshot = after(holding(registered("1"), registered("2")), deregister(key("2"), who="ann"))
    assert [one.version for one in snapshot.entries] == ["1"]


def test_a_version_of_the_config_is_taken_out_there() -> None:
    with pytest.raises(Conflict, match="llama@1 stands in the config of the gateway of development; take it out there"):
        deregister(key(), who="ann")(holding(declared()))
    assert after(adopted(holding(declared())), deregister(key(), who="ann")).entries == ()


@pytest.mark.parametrize("weight", [-1, 101])
def test_a_weight_outside_its_bounds_is_refused(weight: int) -> None:
    with pytest.raises(InvalidRequest, match=f"weight: {weight} is outside 0 to 100"):
        weigh(key(), weight, who="ann")(holding(registered()))


@pytest.mark.parametrize(
    "decide", [enable(key("9"), None, who="a"), disable(key("9"), who="a"), deregister(key("9"), who="a")]
)
def test_an_unknown_version_is_refused_with_those_there_are(decide: Decide) -> None:
    with pytest.raises(NotFound, match="no version '9' in development; there are: 1, 2"):
        decide(holding(registered("1"), registered("2")))


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="no model 'qwen' in development; there are: llama"):
        disable(("qwen", "1", "development"), who="ann")(holding(registered()))


class TestDuringARollout:
    @pytest.fixture
    def snapshot(self) -> Snapshot:
        versions = holding(registered("1"), registered("2", weight=0), registered("3", weight=0))
        start = begun()
        return after(versions, start)

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("change", [disable, deregister])
    def test_what_it_compares_stays(self, snapshot: Snapshot, version: str, change: Any) -> None:
        with pytest.raises(
            Conflict, match=f"llama@{version} is part of the rollout to 2.*`manta rollout rollback llama`"
        ):
            change(key(version), who="ann")(snapshot)

    def test_what_it_compares_does_not_move(self, snapshot: Snapshot) -> None:
        with pytest.raises(Conflict, match="part of the rollout"):
            checked(registration("2", endpoint="serve://other"), snapshot)(snapshot)

    @pytest.mark.parametrize("version", ["1", "2", "3"])
    def test_weights_are_its_own(self, snapshot: Snapshot, version: str) -> None:
        with pytest.raises(Conflict, match="the rollout of llama to 2 under way in development sets its weights"):
            weigh(key(version), 50, who="ann")(snapshot)

    def test_what_changes_no_share_may_be_done(self, snapshot: Snapshot) -> None:
        changed = after(
            snapshot,
            disable(key("3"), who="ann"),
            checked(registration("4")),
            checked(registration("2", owner="a"), snapshot),
        )
        assert weights(changed) == {"1": 95, "2": 5, "4": 0}

    def test_a_version_that_left_the_config_stays_until_its_end(self) -> None:
        versions = holding(declared("1"), registered("2", weight=0))
        start = begun()
        running = after(versions, start)
        assert adopted(running) == running


class TestAConfig:
    def test_its_models_are_put_in(self) -> None:
        snapshot = adopted(Snapshot(), declared())
        assert snapshot.entries == (declared(),)
        assert adopt([declared()], "development", who="config")(snapshot).is_empty

    def test_its_new_fields_are_taken_but_not_status_and_weight(self) -> None:
        snapshot = holding(declared(status="disabled", weight=30, digest=DIGEST, signature="verified"))
        [now] = adopted(snapshot, declared(endpoint="serve://new", licence="MIT")).entries
        assert now == replace(snapshot.entries[0], endpoint="serve://new", licence="MIT")

    def test_a_model_that_left_it_is_disabled_until_it_is_back(self) -> None:
        without = adopted(holding(declared(weight=40)))
        assert (without.entries[0].status, without.entries[0].source) == ("disabled", "withdrawn")
        assert adopted(without, declared()).entries == (declared(weight=40),)

    def test_a_model_that_an_operator_disabled_stays_so(self) -> None:
        disabled = after(holding(declared()), disable(key(), who="ann"))
        assert adopted(adopted(disabled), declared()).entries[0].status == "disabled"

    def test_a_new_version_takes_the_place_of_the_one_that_left(self) -> None:
        snapshot = adopted(holding(declared("1", weight=90), registered("x", weight=10)), declared("2"))
        assert weights(snapshot) == {"2": 90, "x": 10}

    def test_a_new_model_takes_nothing_from_versions_that_answer(self) -> None:
        assert weights(adopted(holding(registered("x", weight=10)), declared("1"))) == {"1": 0, "x": 10}

    def test_what_is_left_takes_all(self) -> None:
        assert weights(adopted(holding(declared("1"), registered("x", weight=0)))) == {"x": 100}

    def test_an_operators_version_is_the_operators(self) -> None:
        snapshot = after(holding(declared()), checked(registration(prompt_price=2.0), holding(declared())))
        assert snapshot.entries[0].source == "operator"
        assert adopted(snapshot, declared(licence="MIT")) == snapshot
        assert adopted(snapshot) == snapshot

    def test_a_weight_does_not_make_it_the_operators(self) -> None:
        snapshot = after(holding(declared()), checked(registration(weight=7), holding(declared())))
        assert (snapshot.entries[0].source, snapshot.entries[0].weight) == ("config", 7)

    def test_a_version_that_left_it_may_be_enabled_and_stays_so(self) -> None:
        snapshot = after(adopted(holding(declared())), enable(key(), None, who="ann"))
        assert adopted(snapshot) == snapshot
        assert weights(snapshot) == {"1": 100}
        assert adopted(snapshot, declared(licence="MIT")).entries == (declared(licence="MIT"),)

    def test_other_environments_are_not_its_business(self) -> None:
        snapshot = holding(declared(environment="production"))
        assert adopted(snapshot) == snapshot


VERSIONS = st.sampled_from("123")
WEIGHTS = st.sampled_from([None, 0, 1, 50, 100])


@st.composite
def decisions(draw: st.DrawFn) -> Decide:
    version, weight = draw(VERSIONS), draw(WEIGHTS)
    asked = registration(version, weight=weight, engine="vllm")
    config = [declared(one) for one in draw(st.sets(VERSIONS, max_size=2))]
    choices: list[Decide] = [
        checked(asked),
        unchecked(asked),
        enable(key(version), None, weight=weight, who="ann"),
        disable(key(version), who="ann"),
        deregister(key(version), who="ann"),
        weigh(key(version), weight or 0, who="ann"),
        adopt(config, "development", who="config"),
        rollouts.start(
            id=draw(st.sampled_from("ab")),
            model="llama",
            environment="development",
            to_version=version,
            steps=(5, 50, 100),
            hold_s=0,
            who="ann",
            now=1.0,
        ),
        rollouts.promote("llama", "development", who="ann", now=2.0),
        rollouts.rollback("llama", "development", who="ann", now=2.0),
    ]
    return draw(st.sampled_from(choices))


def replayed(rows: Iterable[Audit]) -> dict[Key, Any]:
    """The entries that the audit says there are."""
    entries: dict[Key, Any] = {}
    for row in rows:
        fields = row.after or row.before or {}
        if "endpoint" not in fields:
            continue
        of = (row.model, row.version, row.environment)
        assert (entries.get(of) or {}) == (row.before or {})
        entries[of] = row.after
    return {of: fields for of, fields in entries.items() if fields}


@settings(max_examples=400)
@given(st.lists(decisions(), max_size=12))
def test_whatever_is_done_a_model_can_be_answered_and_the_audit_says_how_it_came_to_be(steps: list[Decide]) -> None:
    snapshot, rows = Snapshot(), list[Audit]()
    for number, decide in enumerate(steps):
        try:
            change = decide(snapshot)
        except MantaError as refused:
            assert str(refused)
            continue
        if change.is_empty:
            continue
        done = apply(change, snapshot, at=float(number), first_audit=len(rows) + 1)
        snapshot, rows = done.snapshot, rows + list(done.audit)
        enabled = weights(snapshot)
        assert not enabled or sum(enabled.values()) > 0
        assert all(0 <= one.weight <= 100 for one in snapshot.entries)
        for rollout in snapshot.rollouts:
            assert (enabled[rollout.to_version], sum(enabled.values())) == (rollout.percent, 100)
    assert replayed(rows).keys() == {one.key for one in snapshot.entries}
    assert all(fields["weight"] == snapshot.find(of).weight for of, fields in replayed(rows).items())  # type: ignore[union-attr]

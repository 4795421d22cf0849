from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.cluster_patch import difference
from tests.deployments.rendered_manifests import applied

keys = st.sampled_from(["a", "b", "app/name", "~tilde", "0"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(documents, documents)
def test_the_difference_applied_to_the_old_is_the_new(old: Any, new: Any) -> None:
    patched = applied(old, list(difference(old, new)))

    assert repr_of(patched) == repr_of(new)


@given(documents)
def test_nothing_differs_from_itself(document: Any) -> None:
    assert list(difference(document, document)) == []


def repr_of(document: Any) -> Any:
    """Tells True from 1, which Python holds equal and YAML does not."""
    if isinstance(document, dict):
        return {key: repr_of(value) for key, value in document.items()}
    return [repr_of(value) for value in document] if isinstance(document, list) else repr(document)

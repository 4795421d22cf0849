from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress import token_counts
from serve_app.documents.tokens import minilm_tokenizer
from serve_app.prompt import Rooms
from serve_app.registry.declared import declared
from serve_app.settings import ModelSettings, RetrieverSettings
from serve_app.token_estimate import estimated_tokens
from tests.builders import settings

ROOT = Path(__file__).parents[2]
STRETCH = 800


def stretches(pattern: str) -> list[str]:
    text = "\n".join(file.read_text() for file in sorted(ROOT.glob(pattern)))
    return [text[start : start + STRETCH] for start in range(0, len(text), STRETCH)]


@pytest.mark.parametrize("pattern", ["README.md", "benchmarks/*.md", "serve_app/*.py", "rayservice/base/*.yaml"])
def test_the_estimate_is_seldom_below_the_count_of_a_tokenizer(pattern: str) -> None:
    tekken = pytest.importorskip("mistral_common.tokens.tokenizers.tekken")
    folder = Path(pytest.importorskip("mistral_common").__file__).parent / "data"
    tokenizer = tekken.Tekkenizer.from_file(str(folder / "tekken_240911.json"))
    ratios = [estimated_tokens(text) / len(tokenizer.encode(text, False, False)) for text in stretches(pattern)]
    assert sum(ratio < 1 for ratio in ratios) <= 0.03 * len(ratios)
    assert sorted(ratios)[len(ratios) // 2] < 1.6


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("如果新集群未能就绪,控制器将保留旧集群。", 20),
        ("🚀🚀🚀", 12),
        ("d7a8fbb307d7809469ca9abcb0082e4f", 28),
        ("x = a[i][j]; y += 1", 13),
        ("", 0),
    ],
)
def test_text_that_breaks_a_rule_of_thumb_is_not_underestimated(text: str, least: int) -> None:
    assert estimated_tokens(text) >= least


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    assert estimated_tokens(one) <= estimated_tokens(f"{one} {other}") <= 4.2 * len(one + other) + 4


def test_a_model_is_counted_by_its_own_tokenizer_where_one_is_named() -> None:
    models = settings().models | {
        "named": ModelSettings(application="n", engine="vllm", tokenizer_path=str(minilm_tokenizer()))
    }
    counts = token_counts(models)
    assert counts.keys() == {"extractive", "named"}
    assert counts["named"]("unbelievable") == 1
    rooms = Rooms(RetrieverSettings(sources_tokens=7, history="refuse"), counts)
    room = {entry.model: rooms.of(entry) for entry in declared(models, "development").entries}
    assert (room["small"].count, room["named"].count) == (estimated_tokens, counts["named"])
    assert (room["small"].sources_tokens, room["small"].trims) == (7, False)


def test_a_tokenizer_that_is_not_there_refuses_to_start() -> None:
    wrong = {"m": ModelSettings(application="m", engine="vllm", tokenizer_path="/nowhere/tokenizer.json")}
    with pytest.raises(ValueError, match=r"models\.m\.tokenizer_path: there is no file /nowhere/tokenizer\.json"):
        token_counts(wrong)

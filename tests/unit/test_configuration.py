import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serve_app.configuration import InvalidConfig, at_home, dump, load, with_model
from serve_app.policy import ACTIONS, GuardrailSettings, PolicySettings
from serve_app.settings import RetrieverSettings

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "configs" / "local.yaml"


def written(folder: Path, **changes: Any) -> Path:
    """The local profile with changed gateway arguments."""
    config = yaml.safe_load(LOCAL.read_text())
    config["applications"][0]["args"] |= changes
    file = folder / "changed.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def checkpoint(folder: Path, heads: int = 4) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": heads, "max_position_embeddings": 2048}))
    return folder


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_of_the_project_loads(file: Path) -> None:
    assert load(file).gateway.models


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"guardrial": {}}, r"guardrial: unknown key; allowed here: .*guardrail"),
        ({"retriever": {"topk": 3}}, r"retriever.topk: unknown key; allowed here: .*top_k"),
        ({"retriever": {"top_k": 0}}, r"retriever.top_k: Input should be greater than 0"),
        ({"classifier": {"backend": "tensorrt"}}, r"classifier.backend: Input should be 'embedded' or 'triton'"),
        (
            {"router": {"small": "gpt-9", "large": "extractive"}},
            r"router.small: no model named 'gpt-9'; models are extractive",
        ),
        (
            {"models": {"extractive": {"application": "nowhere", "engine": "extractive"}}},
            r"models.extractive.application: there is no application 'nowhere'; applications are extractive, gateway",
        ),
        (
            {"models": {"extractive": {"application": "extractive", "engine": "llamacpp"}}},
            r"engine: Input should be 'extractive' or 'vllm'",
        ),
        ({"keys": []}, r"keys: "),
    ],
)
def test_a_bad_config_names_file_key_and_allowed_values(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidConfig, match=complaint) as refused:
        load(written(tmp_path, **changes))
    assert "changed.yaml: " in str(refused.value)


@pytest.mark.parametrize("text", ["{", "- a", "applications: []", "applications: {}"])
def test_what_is_not_a_config_at_all_is_said_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfig, match=r"broken\.yaml"):
        load(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidConfig, match="nowhere.yaml: cannot be read"):
        load(Path("nowhere.yaml"))


def test_a_model_becomes_an_application_that_auto_goes_to(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    config = with_model(load(LOCAL), str(folder), gpu=False)
    assert config.gateway.router.small == "tiny"
    assert config.gateway.models["tiny"].context_tokens == 2048
    assert [application.name for application in config.applications] == ["gateway", "extractive", "tiny"]


def test_passages_are_fitted_by_the_tokenizer_that_lies_beside_the_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    assert with_model(load(LOCAL), str(folder), gpu=False).gateway.models["tiny"].tokenizer_path is None
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    config = with_model(load(LOCAL), str(folder), gpu=False)
    assert config.gateway.models["tiny"].tokenizer_path == str(folder / "tokenizer.json")


def test_a_hub_id_keeps_its_name_and_gets_a_usable_application_name() -> None:
    config = with_model(load(LOCAL), "Qwen/Qwen3-0.6B", gpu=True)
    assert config.gateway.models["Qwen/Qwen3-0.6B"].application == "Qwen--Qwen3-0.6B"


def test_tensor_parallel_that_does_not_divide_the_heads_is_refused_with_what_would(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny", heads=4)
    with pytest.raises(ValueError, match=r"tensor_parallel_size: 3 does not divide the model's 4 .*allowed: 1, 2, 4"):
        with_model(load(LOCAL), str(folder), gpu=False, tensor_parallel_size=3)


def test_two_ranks_on_a_cpu_get_a_core_each(tmp_path: Path) -> None:
    config = with_model(load(LOCAL), str(checkpoint(tmp_path / "tiny")), gpu=False, tensor_parallel_size=2)
    llm_config = dump(config)["applications"][2]["args"]["llm_config"]
    assert llm_config["runtime_env"]["env_vars"]["VLLM_CPU_OMP_THREADS_BIND"] == "0|1"
    assert llm_config["engine_kwargs"]["distributed_executor_backend"] == "mp"


def test_data_moves_below_the_home_of_the_service(tmp_path: Path) -> None:
    retriever = at_home(load(LOCAL), tmp_path).gateway.retriever
    assert retriever.milvus.uri == f"{tmp_path}/milvus.db"
    assert retriever.catalog_url == f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    assert retriever.files_path == f"{tmp_path}/files"


def test_a_milvus_server_stays_where_it_is(tmp_path: Path) -> None:
    config = load(written(tmp_path, retriever={"milvus": {"uri": "https://milvus.example:19530"}}))
    assert at_home(config, tmp_path).gateway.retriever.milvus.uri == "https://milvus.example:19530"


def test_one_entity_more_strict_leaves_the_others_as_they_are() -> None:
    policy = PolicySettings.model_validate({"entities": {"EMAIL_ADDRESS": "block"}})
    assert policy.entities == {**ACTIONS, "EMAIL_ADDRESS": "block"}
    assert PolicySettings().entities == ACTIONS


def test_an_entity_of_ones_own_is_masked_unless_it_says_otherwise() -> None:
    lexicons = [{"kind": "PROJECT", "words": ["bluebird"]}, {"kind": "TICKET", "pattern": "T-[0-9]{4}"}]
    policy = PolicySettings.model_validate({"lexicons": lexicons, "entities": {"TICKET": "allow"}})
    assert (policy.entities["PROJECT"], policy.entities["TICKET"]) == ("mask", "allow")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"policies": {"default": {"entities": {"EMAIL": "mask"}}}},
            "nothing finds 'EMAIL'; entities are .*EMAIL_ADDRESS",
        ),
        (
            {"policies": {"default": {"thresholds": {"rude": 0.5}}}},
            "there is no category 'rude'; categories are .*hate",
        ),
        ({"policies": {"default": {"safe_messages": {"jailbreak": "x"}}}}, "there is no category 'jailbreak'"),
        ({"policies": {"strict": {}}}, "one must be named 'default'"),
        ({"tenants": {"acme": "strict"}}, "tenants.acme: there is no policy 'strict'; policies are default"),
        ({"policies": {"default": {"lexicons": [{"kind": "X"}]}}}, "lexicon X: give `words`, a `pattern`, or both"),
    ],
)
def test_a_policy_that_cannot_hold_says_what_is_allowed(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        GuardrailSettings.model_validate(wrong)


def test_a_reranker_has_less_time_than_the_search_it_belongs_to() -> None:
    reranker = {"backend": "vllm", "url": "http://reranker:8000", "deadline_ms": 500}
    with pytest.raises(ValidationError, match=r"reranker.deadline_ms` is 500 and must be less than `deadline_ms`, 500"):
        RetrieverSettings.model_validate({"reranker": reranker})
    assert RetrieverSettings.model_validate({"reranker": reranker, "deadline_ms": 600}).deadline_ms == 600


def test_the_readme_shows_the_default_policy_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(readme.split("```yaml\n")[1].split("```")[0])["guardrail"]
    assert GuardrailSettings.model_validate(shown) == GuardrailSettings()
    assert shown["policies"]["default"].keys() == PolicySettings.model_fields.keys()

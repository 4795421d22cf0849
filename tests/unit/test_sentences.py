import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.sentences import split, units


def texts(markdown: str) -> list[str]:
    return [unit.text for unit in units(markdown)]


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_a_paragraph_becomes_its_sentences() -> None:
    assert texts("Milvus stores vectors. It is open source!\nIs it fast? Yes, it is fast.") == [
        "Milvus stores vectors.",
        "It is open source!",
        "Is it fast?",
        "Yes, it is fast.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Use a queue, e.g. Kafka, for the log.",
        "It was shown by Smith et al. In mice.",
        "Set `a.b. C` before the start.",
        "See J. Doe for the proof of it.",
        "Version 2.4.1 is the newest one.",
        "Open values.yaml and edit it.",
    ],
)
def test_a_period_inside_a_sentence_does_not_end_it(sentence: str) -> None:
    assert split(sentence) == [sentence]


def test_headings_are_context_and_not_units() -> None:
    found = units("# Operations\n\n## Rollback\n\nRun the undo command now.\n\n## Scaling\n\nAdd more replicas then.")

    assert [(unit.heading, unit.text) for unit in found] == [
        ("Operations > Rollback", "Run the undo command now."),
        ("Operations > Scaling", "Add more replicas then."),
    ]


def test_an_underlined_title_is_a_heading() -> None:
    assert [(u.heading, u.text) for u in units("Rollback\n========\n\nRun the undo command.")] == [
        ("Rollback", "Run the undo command.")
    ]


def test_a_numbered_step_stays_whole_with_the_command_inside_it() -> None:
    step, other = units("1. Check the pods:\n\n   ```bash\n   kubectl get pods\n   ```\n\n2. Delete the broken one.")

    assert (step.kind, other.kind) == ("step", "step")
    assert step.text == "1. Check the pods:\n\n   ```bash\n   kubectl get pods\n   ```"
    assert step.block == other.block


def test_a_nested_list_belongs_to_its_item() -> None:
    assert texts("- first things\n  - inner thing\n- second things") == [
        "- first things\n  - inner thing",
        "- second things",
    ]


def test_a_sentence_leads_to_the_code_below_it() -> None:
    sentence, code = units("Run the following command.\n\n```sh\nmake serve\n```")

    assert sentence.leads
    assert (code.kind, code.text) == ("code", "```sh\nmake serve\n```")


def test_an_item_leads_to_the_code_below_it() -> None:
    assert [unit.leads for unit in units("- Set the variables.\n```sh\nexport A=1\n```")] == [True, False]


def test_a_sentence_that_ends_with_a_full_stop_does_not_lead_to_a_list() -> None:
    assert not units("There are two modes.\n\n- small mode\n- large mode")[0].leads


def test_code_that_was_cut_off_is_left_out() -> None:
    assert texts("Run this command now.\n\n```sh\nmake serve") == ["Run this command now."]
    assert texts('```json\n  "b": 2}\n]\n```') == []


def test_a_row_knows_the_header_of_its_table() -> None:
    found = units("| tool | version |\n|:---|---:|\n| helm | 3 |\n| kubectl | 1.18 |")

    assert [(unit.text, unit.head) for unit in found] == [
        ("| helm | 3 |", "| tool | version |"),
        ("| kubectl | 1.18 |", "| tool | version |"),
    ]


@pytest.mark.parametrize(
    "noise",
    [
        "---\ntitle: Rollback\nweight: 3\n---",
        "<!-- markdownlint-disable MD013 -->",
        "[![Build Status](https://ci/badge.svg)](https://ci/actions)",
        "- [Installation](#installation)",
        "[Learn](more.md)",
        "See below:",
        "---",
        "![the architecture of it all](a.png)",
        '{{< link-card title="x" >}}',
        '{"a": 1, "b": [2, 3], "c": {"d": 4}}',
        "## Table of contents\n\n1. Prerequisites of all\n2. The second step",
    ],
)
def test_what_says_nothing_is_not_a_unit(noise: str) -> None:
    assert texts(f"{noise}\n\n# Rollback\n\nRun the undo command now.") == ["Run the undo command now."]


def test_html_around_a_sentence_is_taken_off() -> None:
    assert texts('<div class="alert note">Restart Milvus after the change.</div>') == [
        "Restart Milvus after the change."
    ]


def test_a_quotation_is_read_without_its_marks() -> None:
    assert texts("> [!IMPORTANT]\n> Restart Milvus\n> after the change.") == ["Restart Milvus after the change."]


def test_the_introduction_of_a_list_on_the_next_page_still_leads() -> None:
    (unit,) = units("The worker group uses the following options:")

    assert unit.leads


MARKDOWN = st.lists(
    st.sampled_from(
        ["# Title", "A sentence. Another one, e.g. This.", "- item one", "1. step one", "   inner text", "```", "~~~sh"]
        + [
            "| a | b |",
            "|---|---|",
            "> quoted text here",
            "",
            "Run this:",
            "====",
            "<div>",
            "-->",
            "`code. Here",
            "[1]",
        ]
    ),
    max_size=14,
).map("\n".join)


@given(st.one_of(MARKDOWN, st.text(max_size=200)))
def test_every_unit_is_a_stretch_of_the_passage(passage: str) -> None:
    text = squeezed(passage.replace(">", ""))

    assert all(squeezed(unit.text.replace(">", "")) in text for unit in units(passage))


@given(st.text(max_size=300))
def test_sentences_joined_again_are_the_paragraph(paragraph: str) -> None:
    plain = " ".join(paragraph.replace("<", "").replace("[", "").split())

    assert squeezed("".join(split(plain))) == squeezed(plain)

"""Playbook stores: named prompts and procedures, looked up by name before anything else, and returned whole.

A vector store is one by its metadata `kind: playbook`. An entry is a document of it; its name is its attribute `name`,
such as a JSON line has, else its title. Whatever is looked up goes through a search with its caller's sight.
"""

import difflib
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from serve_app.documents.chunk import Excerpt
from serve_app.errors import InvalidRequest, NotFound, RetrieverUnavailable
from serve_app.ports import Query
from serve_app.redaction import treatment
from serve_app.selection import joined_suspicion
from serve_app.turn import Found, Passage, Ranking

Search = Callable[[Query], Awaitable[Found]]

KIND = "playbook"
NAME, KEY = "name", "playbook_name"
"""Attributes of an entry: its name as written, and as it is looked up."""
LONGEST_NAME = 200
MOST_CHUNKS = 1_000
"""Of all entries fetched at once: about 200,000 tokens."""
LEAST_CHUNKS, CHUNKS_AN_ENTRY = 50, 4
"""Chunks looked for by a search, and for each entry it is to return: a long entry takes many of the best places."""
NEAR_NAMES = 3


def is_playbook(metadata: Mapping[str, str]) -> bool:
    return metadata.get("kind") == KIND


def key(name: str) -> str:
    """A name as it is compared: case, spaces and the forms of a character do not count."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())[:LONGEST_NAME]


def filed(excerpt: Excerpt, metadata: Mapping[str, str], given: Mapping[str, str | float | bool]) -> Excerpt:
    """The excerpt as a store with this metadata takes it; `given`: attributes its file was attached with.

    In a playbook store it has its entry's name. Elsewhere a line's `name` is left out: it may be a person's, and a
    store that redacts does not read attributes. There an entry has the name of its title, which is redacted.
    """
    attributes = {name: value for name, value in excerpt.attributes.items() if name != NAME}
    if is_playbook(metadata):
        own = "" if treatment(metadata) != "off" else given.get(NAME) or excerpt.attributes.get(NAME)
        name = str(own or excerpt.title or PurePosixPath(excerpt.source).stem)[:LONGEST_NAME]
        attributes |= {NAME: name, KEY: key(name)}
    return excerpt if attributes == excerpt.attributes else replace(excerpt, attributes=attributes)


async def entry(search: Search, query: Query, name: str) -> Passage:
    """The entry of this name, whole, with score 1; of several the one ingested last.

    The caller chose it, so its instructions are what it is for and not suspicious: of eight harmless prompts the
    inspector took six for planted ones. What it says is screened like every passage. Raises NotFound with
    the nearest names, RetrieverUnavailable also when the query has no embedding.
    """
    found = await _whole(search, query, [key(name)])
    if not found:
        raise NotFound(await _missing(search, query, name)).at("manta.playbook")
    latest = max(found.values(), key=lambda one: (float(one.attributes.get("ingested_at", 0)), one.file_id))
    return replace(latest, score=1.0, suspicion=0.0)


async def looked_up(search: Search, query: Query) -> Found:
    """For a playbook store: the entries that have the question as their name, with score 1, then those it finds.

    Each entry is whole and stands once. While the encoder is away nothing can be made whole: passages then stand as
    they are found.
    """
    if query.embedding is None:
        return await search(query)
    found = await search(replace(query, top_k=max(LEAST_CHUNKS, CHUNKS_AN_ENTRY * query.top_k)))
    asked = key(query.text)
    keys = dict.fromkeys([asked, *(str(one.attributes[KEY]) for one in found.passages if KEY in one.attributes)])
    whole = await _whole(search, query, list(keys)[: query.top_k + 1])
    ranked = {
        (one.file_id, entry_key): replace(one, score=1.0) for (_, entry_key), one in whole.items() if entry_key == asked
    }
    for one in found.passages:
        place = (one.file_id, str(one.attributes.get(KEY, one.id)))
        if place not in ranked:
            ranked[place] = replace(whole[place], score=one.score) if place in whole else one
    return replace(found, passages=tuple(ranked.values())[: query.top_k])


def is_of(passage: Passage, name: str) -> bool:
    return passage.attributes.get(KEY) == key(name)


async def _whole(search: Search, query: Query, keys: Sequence[str]) -> dict[tuple[str, str], Passage]:
    """The entries of these names, by file and name. Raises InvalidRequest for more than can be fetched at once."""
    if query.embedding is None:
        raise RetrieverUnavailable(
            "a playbook's entry cannot be looked up while the encoder is away; try again shortly"
        )
    chunks = (await search(_narrowed(query, {"type": "in", "key": KEY, "value": list(keys)}, MOST_CHUNKS))).passages
    if len(chunks) >= MOST_CHUNKS:
        raise InvalidRequest(
            f"playbook: the entries {', '.join(map(repr, keys))} have over {MOST_CHUNKS} passages together; "
            "ask for fewer (max_num_results), or split them"
        )
    runs: dict[tuple[str, str], list[Passage]] = {}
    for chunk in chunks:
        runs.setdefault((chunk.file_id, str(chunk.attributes[KEY])), []).append(chunk)
    return {place: _joined(run) for place, run in runs.items()}


async def _missing(search: Search, query: Query, name: str) -> str:
    named = _narrowed(query, {"type": "gt", "key": KEY, "value": ""}, MOST_CHUNKS)
    known = {key(str(one.attributes[NAME])): str(one.attributes[NAME]) for one in (await search(named)).passages}
    near = difflib.get_close_matches(key(name), known, NEAR_NAMES, cutoff=0.5)
    shown = f"near it are {', '.join(repr(known[one]) for one in near)}" if near else "`manta playbook list` shows them"
    return f"manta.playbook: there is no entry named {name!r}; {shown}"


def _narrowed(query: Query, condition: Mapping[str, object], top_k: int) -> Query:
    """By meaning alone: then every passage of the entry is found, whatever its words."""
    both = {"type": "and", "filters": [condition, query.filters]} if query.filters else condition
    return replace(query, filters=both, top_k=top_k, ranking=Ranking(meaning=1.0, rerank=False))


def _joined(run: Sequence[Passage]) -> Passage:
    """The chunks of one entry in their order, with the headings that were taken out of them."""
    ordered = sorted(run, key=lambda one: (one.ordinal or 0, one.id))
    text = ordered[0].text
    for before, chunk in zip(ordered, ordered[1:], strict=False):
        section = chunk.heading.rpartition(" > ")[2]
        text += f"\n\n{section}\n\n{chunk.text}" if chunk.heading != before.heading and section else f"\n\n{chunk.text}"
    return replace(ordered[0], text=text, suspicion=joined_suspicion(ordered))

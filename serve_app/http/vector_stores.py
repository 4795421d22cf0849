"""OpenAI's Vector Stores API."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends
from fastapi import Query as Parameter
from numpy.typing import NDArray
from starlette.requests import Request

from serve_app.documents.records import Paging, Status, Store, Wish
from serve_app.errors import ClassifierUnavailable
from serve_app.http.files import Authenticate, NamedFaults, list_object
from serve_app.http.requests import read
from serve_app.http.schema import body_schema
from serve_app.http.vector_store_wire import (
    AttributeChange,
    BatchCreation,
    FileAttachment,
    SearchRequest,
    StoreChange,
    StoreCreation,
    attached_object,
    batch_object,
    chunk_sizes,
    content_object,
    result_object,
    store_object,
)
from serve_app.library_port import LibraryPort
from serve_app.playbook import is_playbook, looked_up
from serve_app.ports import Query
from serve_app.sight import Sight
from serve_app.turn import Caller, Embedding, Found, Passage

MAX_BODY_BYTES = 2**20
Search = Callable[[Query], Awaitable[Found]]
Embed = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]


def paging(
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    before: str | None = None,
) -> Paging:
    return Paging(limit=limit, order=order, after=after, before=before)


Page = Annotated[Paging, Depends(paging)]


def vector_stores_router(library: LibraryPort, authenticate: Authenticate, search: Search, embed: Embed) -> APIRouter:
    router = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"], route_class=NamedFaults)
    _add_stores(router, library, authenticate)
    _add_search(router, library, authenticate, _Searching(search, embed))
    _add_files(router, library, authenticate)
    _add_batches(router, library, authenticate)
    return router


def _add_stores(router: APIRouter, library: LibraryPort, authenticate: Authenticate) -> None:
    Who = Annotated[Caller, Depends(authenticate)]

    @router.post("", openapi_extra=body_schema(StoreCreation))
    async def create(request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, StoreCreation, MAX_BODY_BYTES)
        made = await library.create_store(
            caller.tenant,
            asked.name or "",
            asked.metadata,
            asked.file_ids,
            description=asked.description or "",
            expires_after_days=asked.expires_after.days if asked.expires_after else None,
            chunk_sizes=chunk_sizes(asked.chunking_strategy),
        )
        return store_object(made)

    @router.get("")
    async def listing(caller: Who, page: Page) -> dict[str, Any]:
        return list_object(await library.list_stores(caller.tenant, page), store_object)

    @router.get("/{store_id}")
    async def get(store_id: str, caller: Who) -> dict[str, Any]:
        return store_object(await library.get_store(caller.tenant, store_id))

    @router.post("/{store_id}", openapi_extra=body_schema(StoreChange))
    async def change(store_id: str, request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, StoreChange, MAX_BODY_BYTES)
        changed = await library.update_store(
            caller.tenant, store_id, asked.name, asked.metadata, asked.expires_after_days
        )
        return store_object(changed)

    @router.delete("/{store_id}")
    async def delete(store_id: str, caller: Who) -> dict[str, Any]:
        await library.delete_store(caller.tenant, store_id)
        return {"id": store_id, "object": "vector_store.deleted", "deleted": True}


def _add_files(router: APIRouter, library: LibraryPort, authenticate: Authenticate) -> None:
    Who = Annotated[Caller, Depends(authenticate)]

    @router.post("/{store_id}/files", openapi_extra=body_schema(FileAttachment))
    async def attach(store_id: str, request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, FileAttachment, MAX_BODY_BYTES)
        return attached_object(await library.attach(caller.tenant, store_id, asked.file_id, asked.wish))

    @router.get("/{store_id}/files")
    async def listing(
        store_id: str, caller: Who, page: Page, status: Annotated[Status | None, Parameter(alias="filter")] = None
    ) -> dict[str, Any]:
        return list_object(await library.list_attached(caller.tenant, store_id, page, status), attached_object)

    @router.get("/{store_id}/files/{file_id}")
    async def get(store_id: str, file_id: str, caller: Who) -> dict[str, Any]:
        return attached_object(await library.get_attached(caller.tenant, store_id, file_id))

    @router.post("/{store_id}/files/{file_id}", openapi_extra=body_schema(AttributeChange))
    async def change(store_id: str, file_id: str, request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, AttributeChange, MAX_BODY_BYTES)
        await library.get_attached(caller.tenant, store_id, file_id)
        wish = Wish(attributes=asked.attributes or {})
        return attached_object(await library.attach(caller.tenant, store_id, file_id, wish))

    @router.get("/{store_id}/files/{file_id}/content")
    async def content(store_id: str, file_id: str, caller: Who) -> dict[str, Any]:
        return content_object(await library.attached_content(Sight.of(caller), store_id, file_id))

    @router.delete("/{store_id}/files/{file_id}")
    async def detach(store_id: str, file_id: str, caller: Who) -> dict[str, Any]:
        await library.detach(caller.tenant, store_id, file_id)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


def _add_batches(router: APIRouter, library: LibraryPort, authenticate: Authenticate) -> None:
    Who = Annotated[Caller, Depends(authenticate)]

    @router.post("/{store_id}/file_batches", openapi_extra=body_schema(BatchCreation))
    async def create(store_id: str, request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, BatchCreation, MAX_BODY_BYTES)
        return batch_object(await library.attach_batch(caller.tenant, store_id, asked.wishes))

    @router.get("/{store_id}/file_batches/{batch_id}")
    async def get(store_id: str, batch_id: str, caller: Who) -> dict[str, Any]:
        return batch_object(await library.get_batch(caller.tenant, store_id, batch_id))

    @router.post("/{store_id}/file_batches/{batch_id}/cancel")
    async def cancel(store_id: str, batch_id: str, caller: Who) -> dict[str, Any]:
        return batch_object(await library.cancel_batch(caller.tenant, store_id, batch_id))

    @router.get("/{store_id}/file_batches/{batch_id}/files")
    async def listing(
        store_id: str,
        batch_id: str,
        caller: Who,
        page: Page,
        status: Annotated[Status | None, Parameter(alias="filter")] = None,
    ) -> dict[str, Any]:
        found = await library.list_attached(caller.tenant, store_id, page, status, batch_id)
        return list_object(found, attached_object)


@dataclass(frozen=True, slots=True)
class _Searching:
    search: Search
    embed: Embed

    async def find(self, caller: Caller, store: Store, asked: SearchRequest) -> list[Passage]:
        """The best of all questions, each passage once, by its best score; of a playbook whole entries."""
        search = partial(looked_up, self.search) if is_playbook(store.metadata) else self.search
        best: dict[str, Passage] = {}
        for question in asked.questions:
            query = Query.of(
                caller,
                text=question,
                embedding=await self._embedding(question),
                stores=(store.id,),
                top_k=asked.max_num_results,
                filters=asked.filters,
                ranking=asked.ranking,
            )
            for passage in (await search(query)).passages:
                best[passage.id] = max(passage, best.get(passage.id, passage), key=lambda found: found.score)
        least = (asked.ranking_options and asked.ranking_options.score_threshold) or 0
        ranked = sorted(best.values(), key=lambda found: found.score, reverse=True)
        return [passage for passage in ranked if passage.score >= least][: asked.max_num_results]

    async def _embedding(self, question: str) -> Embedding | None:
        """None, which searches by words alone, while the encoder is not there."""
        try:
            embedding: Embedding = (await self.embed((question,)))[0]
        except ClassifierUnavailable:
            return None
        return embedding


def _add_search(router: APIRouter, library: LibraryPort, authenticate: Authenticate, searching: _Searching) -> None:
    Who = Annotated[Caller, Depends(authenticate)]

    @router.post("/{store_id}/search", openapi_extra=body_schema(SearchRequest))
    async def search(store_id: str, request: Request, caller: Who) -> dict[str, Any]:
        asked = await read(request, SearchRequest, MAX_BODY_BYTES)
        store = await library.get_store(caller.tenant, store_id)
        found = await searching.find(caller, store, asked)
        return {
            "object": "vector_store.search_results.page",
            "search_query": list(asked.questions),
            "data": [result_object(passage) for passage in found],
            "has_more": False,
            "next_page": None,
        }

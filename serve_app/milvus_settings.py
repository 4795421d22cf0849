from typing import Literal

from pydantic import Field

from serve_app.section import Section


class MilvusSettings(Section):
    uri: str = "var/milvus.db"
    """A path ending in .db is Milvus Lite, in this process; http(s)://host:19530 is a server."""
    token_env: str | None = None
    """Environment variable with the server's token (`user:password` or an API key)."""
    ca_pem_path: str | None = None
    """Certificate authority for TLS, where the server's is private."""
    server_name: str | None = None
    """Name in the server's certificate, where it is not the host's."""
    database: str = "default"
    collection: str = Field(default="manta", pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    """Alias of the collection in use, whose own name is this with a number: `manta migrate` makes the next."""
    encoder: str = "all-MiniLM-L6-v2"
    """Encoder behind the embeddings, kept with the collection: name another one, and the service refuses to mix them
    until `manta migrate` has embedded the chunks anew."""
    dimension: int = Field(default=384, gt=0)
    """Numbers in an embedding of that encoder."""
    index: Literal["AUTOINDEX", "FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "DISKANN"] = "AUTOINDEX"
    """A server's index of the embeddings: HNSW while they fit into memory, IVF_SQ8 at a quarter of it with less
    recall, DISKANN on NVMe disks beyond that. Milvus Lite compares them all."""
    index_params: dict[str, int | float | str] = {}
    """Of the index as it is built: {M: 16, efConstruction: 200} of HNSW, {nlist: 1024} of IVF."""
    search_params: dict[str, int | float | str] = {}
    """Of each search in it: {ef: 128} of HNSW, {nprobe: 32} of IVF, {search_list: 100} of DISKANN."""
    replicas: int = Field(default=1, gt=0)
    """Copies of the collection in the server's memory, each on query nodes of its own."""
    shards: int = Field(default=1, gt=0)
    """Channels that a new collection is written through; more help only when one cannot keep up with ingestion."""
    partitions: int = Field(default=16, gt=0, le=1024)
    """Of a new collection: tenants are spread over them, and a search reads only its tenant's."""
    consistency_level: Literal["Strong", "Bounded", "Session", "Eventually"] = "Bounded"
    """How late a search may see what another replica of the server has taken: Strong waits for it."""
    connect_deadline_s: float = Field(default=5, gt=0)
    search_deadline_s: float = Field(default=10, gt=0)
    """When a search counts as failed, for callers without a deadline of their own."""
    write_deadline_s: float = Field(default=120, gt=0)

    @property
    def is_lite(self) -> bool:
        return self.uri.endswith(".db")

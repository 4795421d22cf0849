"""Milvus servers for tests: Lite's own gRPC server on a port, bare or behind TLS and a token, and a bad network."""

import asyncio
import base64
import datetime
import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from milvus_lite import MilvusLite
from milvus_lite.adapter.grpc.server import start_server_in_thread  # type: ignore[import-untyped]
from milvus_lite.adapter.grpc.servicer import MilvusServicer  # type: ignore[import-untyped]
from pymilvus.grpc_gen import milvus_pb2_grpc


class Server:
    """A Milvus server on a port of its own, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server, self.database, self.port = start_server_in_thread(str(self.folder), port=self.port)

    def stop(self) -> None:
        self.server.stop(grace=0).wait()
        self.database.close()


class GuardedServer:
    """A Milvus server that speaks TLS and answers to one token. Its certificate is for 127.0.0.1 and milvus.test."""

    def __init__(self, folder: Path, token: str) -> None:
        folder.mkdir()
        key, certificate = self_signed("milvus.test")
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate)
        self.database = MilvusLite(str(folder / "data"))
        self.server = grpc.server(ThreadPoolExecutor(4), interceptors=[Guard(token)])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(self.database), self.server)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    @property
    def uri(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.stop(grace=0).wait()
        self.database.close()


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls whose `authorization` is not the token, as a Milvus server with authorisation does."""

    def __init__(self, token: str) -> None:
        self._expected = base64.b64encode(token.encode()).decode()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        if dict(details.invocation_metadata).get("authorization") == self._expected:
            return continuation(details)

        def refuse(request: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

        return grpc.unary_unary_rpc_method_handler(refuse)


def self_signed(name: str) -> tuple[bytes, bytes]:
    """Key and certificate for `name` and 127.0.0.1, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM)


class Network:
    """A way to a server that can be cut, stalled, or lose a peer without a word."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._wires: set[Wire] = set()
        self._is_stalled = False
        self.port = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def up(self) -> None:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Connections are reset, new ones refused."""
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for wire in self._wires:
            wire.cut()

    def cut_answer_after(self, size: int) -> None:
        """Every connection is reset once so many bytes more came from the server over it."""
        for wire in self._wires:
            wire.left = size

    def stall(self) -> None:
        """Nothing passes any more, on connections old and new, and nobody is told."""
        self._is_stalled = True
        self.lose_peers()

    def resume(self) -> None:
        self._is_stalled = False
        for wire in self._wires:
            wire.flows.set()

    def lose_peers(self) -> None:
        """Nothing passes any more on the connections of now; new ones work."""
        for wire in self._wires:
            wire.flows.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        wire = Wire(writer, server_writer)
        self._wires.add(wire)
        if self._is_stalled:
            wire.flows.clear()
        try:
            await asyncio.gather(wire.pump(reader, server_writer), wire.pump(server_reader, writer, counted=True))
        except OSError:
            pass
        finally:
            wire.cut()
            self._wires.discard(wire)


class Wire:
    """One connection through the network."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self.flows = asyncio.Event()
        self.flows.set()
        self.left: int | None = None

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool = False) -> None:
        while received := await source.read(65_536):
            await self.flows.wait()
            if counted and self.left is not None:
                received = received[: self.left]
                self.left -= len(received)
            sink.write(received)
            await sink.drain()
            if self.left == 0:
                raise ConnectionResetError
        raise ConnectionResetError

    def cut(self) -> None:
        self.flows.set()
        for end in self._ends:
            end.transport.abort()

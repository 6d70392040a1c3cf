"""A double of a Terraform provider: it serves a schema over the plugin protocol (version 6), and nothing else.

`terraform validate` needs no more: it checks names, types and required arguments against the schema. Nor does
`terraform test` with `mock_provider`, which makes up what AWS would compute. It accepts every value of the right type,
and can neither plan nor apply by itself.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOCOL: Final = 6
NESTING: Final = {"single": 1, "list": 2, "set": 3, "map": 4}
# The part of Terraform's tfplugin6.proto that is spoken here: message -> field -> (number, type, repeated).
MESSAGES: Final[dict[str, dict[str, tuple[int, str, bool]]]] = {
    "Attribute": {
        "name": (1, "string", False),
        "type": (2, "bytes", False),
        "required": (4, "bool", False),
        "optional": (5, "bool", False),
        "computed": (6, "bool", False),
        "nested_type": (10, "Object", False),
    },
    "Object": {"attributes": (1, "Attribute", True), "nesting": (3, "int64", False)},
    "NestedBlock": {
        "type_name": (1, "string", False),
        "block": (2, "Block", False),
        "nesting": (3, "int64", False),
        "min_items": (4, "int64", False),
        "max_items": (5, "int64", False),
    },
    "Block": {"attributes": (2, "Attribute", True), "block_types": (3, "NestedBlock", True)},
    "Schema": {"version": (1, "int64", False), "block": (2, "Block", False)},
    "Entry": {"key": (1, "string", False), "value": (2, "Schema", False)},
    "Answer": {
        "provider": (1, "Schema", False),
        "resource_schemas": (2, "Entry", True),
        "data_source_schemas": (3, "Entry", True),
    },
    "Empty": {},
}


def _messages() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="millrace_double.proto", package="double", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in MESSAGES:
                message.field.add(
                    name=field, number=number, label=label, type=kinds.TYPE_MESSAGE, type_name=f".double.{kind}"
                )
            else:
                message.field.add(name=field, number=number, label=label, type=getattr(kinds, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"double.{n}")) for n in MESSAGES}


KINDS: Final = _messages()


def _attributes(found: dict[str, Any]) -> list[Any]:
    attributes = []
    for name, (kind, flags) in found.items():
        attribute = KINDS["Attribute"](name=name, required="r" in flags, optional="o" in flags, computed="c" in flags)
        if isinstance(kind, dict):
            inner = KINDS["Object"](attributes=_attributes(kind["attributes"]), nesting=NESTING[kind["nesting"]])
            attribute.nested_type.CopyFrom(inner)
        else:
            attribute.type = json.dumps(kind).encode()
        attributes.append(attribute)
    return attributes


def _block(body: dict[str, Any]) -> Any:
    nested = [
        KINDS["NestedBlock"](
            type_name=name,
            block=_block(inner),
            nesting=NESTING[inner["nesting"]],
            min_items=inner["min"],
            max_items=inner["max"],
        )
        for name, inner in body["blocks"].items()
    ]
    return KINDS["Block"](attributes=_attributes(body["attributes"]), block_types=nested)


def answer(provider: dict[str, Any]) -> bytes:
    """GetProviderSchema's answer for a file of providers/."""

    def entries(group: str) -> list[Any]:
        return [KINDS["Entry"](key=k, value=KINDS["Schema"](block=_block(v))) for k, v in provider[group].items()]

    message = KINDS["Answer"](
        provider=KINDS["Schema"](block=_block(provider["provider"])),
        resource_schemas=entries("resources"),
        data_source_schemas=entries("data"),
    )
    return bytes(message.SerializeToString())


def _certificate() -> tuple[bytes, bytes, bytes]:
    """Key and certificate (PEM), and the certificate as DER: Terraform insists on TLS with its plugins."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (
        pem,
        certificate.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.DER),
    )


def _service(name: str, methods: dict[str, Callable[[], bytes]]) -> Any:
    def handler(reply: Callable[[], bytes]) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: reply())

    return grpc.method_handlers_generic_handler(name, {m: handler(reply) for m, reply in methods.items()})


def serve(schema: Path) -> None:
    """Serve the schema in a file until Terraform says to end."""
    ended = threading.Event()
    described = answer(json.loads(schema.read_text()))

    def nothing() -> bytes:
        return b""

    def end() -> bytes:
        ended.set()
        return b""

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    checks = ("ValidateProviderConfig", "ValidateResourceConfig", "ValidateDataResourceConfig")
    provider = {"GetProviderSchema": lambda: described, "StopProvider": end, **dict.fromkeys(checks, nothing)}
    server.add_generic_rpc_handlers(
        (_service(f"tfplugin{PROTOCOL}.Provider", provider), _service("plugin.GRPCController", {"Shutdown": end}))
    )
    key, pem, der = _certificate()
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/s"
        server.add_secure_port(f"unix://{socket}", grpc.ssl_server_credentials([(key, pem)]))
        server.start()
        shown = base64.b64encode(der).decode().rstrip("=")
        print(f"1|{PROTOCOL}|unix|{socket}|grpc|{shown}", flush=True)
        while not ended.wait(1) and os.getppid() != 1:
            pass
        server.stop(0.2).wait()

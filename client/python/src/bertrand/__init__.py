"""Client of Bertrand, the inference server for the BERT family.

    with bertrand.Client("127.0.0.1:50051") as client:
        vectors = client.embed(["a text", "another"]).embeddings  # float32 [2, d]

AsyncClient has the same methods for asyncio.
"""

from bertrand.aio import AsyncClient
from bertrand.client import Client
from bertrand.errors import (
    Cancelled,
    DeadlineExceeded,
    Error,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from bertrand.types import (
    Embeddings,
    EmbedOptions,
    EmbedTokensOptions,
    HealthStatus,
    Input,
    Inputs,
    InputStats,
    ModelInfo,
    OutputType,
    Pooling,
    Span,
    TextPair,
    Timing,
    Token,
    TokenEmbeddings,
    TokenEmbeddingsList,
    TokenIds,
    TokenizedInput,
    TokenizeOptions,
    TruncationMode,
    TruncationSide,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "EmbedOptions",
    "EmbedTokensOptions",
    "Embeddings",
    "Error",
    "FailedPrecondition",
    "HealthStatus",
    "Input",
    "InputStats",
    "Inputs",
    "Internal",
    "InvalidArgument",
    "ModelInfo",
    "NotFound",
    "OutputType",
    "PermissionDenied",
    "Pooling",
    "ResourceExhausted",
    "Span",
    "TextPair",
    "Timing",
    "Token",
    "TokenEmbeddings",
    "TokenEmbeddingsList",
    "TokenIds",
    "TokenizeOptions",
    "TokenizedInput",
    "TruncationMode",
    "TruncationSide",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]

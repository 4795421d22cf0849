"""
MantaError
  + Rejected                  the caller can act on it
  |   + InvalidRequest                  400
  |   |   + ContextLengthExceeded       400
  |   |   + ContentFiltered             400
  |   + Unauthenticated                 401
  |   + Forbidden                       403
  |   + NotFound                        404
  |   |   + UnknownModel                404
  |   + Conflict                        409
  |   + BodyTooLarge                    413
  |   + RateLimited                     429
  + Unavailable               a part of us failed
      + EngineFailed                    502
      + ScreenerUnavailable             503
      + RegistryUnavailable             503
      |   + SchemaMismatch              503
      + VaultsUnavailable               503
      + ClassifierUnavailable           503
      + RetrieverUnavailable            503
      + DeadlineExceeded                504

Every error takes one message, so that it survives pickling between replicas; further facts are
attributes with defaults, set after construction and carried by `__reduce__`'s state.
`type` and `code` are OpenAI's: clients branch on them. They belong to the class, so that what counts by them counts a
closed set; what an upstream called its error stands beside them.
"""

from typing import ClassVar


class MantaError(Exception):
    status: int = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str] = "internal_error"
    param: str | None = None
    """The request field at fault, in dotted form: `messages.0.role`."""
    upstream_type: str = ""
    """What the engine itself called it, for the wire in place of `type`; empty where Manta raised it. So is
    `upstream_code`."""
    upstream_code: str = ""
    elsewhere: bool = False
    """The fault is the endpoint's: another one may answer the same request."""

    def at(self, param: str) -> "MantaError":
        """This error, naming the request field at fault."""
        self.param = param
        return self


class Rejected(MantaError):
    status = 400
    type = "invalid_request_error"
    code = "rejected"


class InvalidRequest(Rejected):
    code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentFiltered(InvalidRequest):
    code = "content_filter"
    policy: str = ""
    """Name of the policy that was broken: a category, `pii`, `denied-phrase`."""
    safe_message: str | None = None
    """What is answered in place of a refusal."""


class Unauthenticated(Rejected):
    status = 401
    code = "invalid_api_key"


class Forbidden(Rejected):
    status = 403
    code = "insufficient_permissions"


class NotFound(Rejected):
    status = 404
    code = "not_found"


class UnknownModel(NotFound):
    code = "model_not_found"


class Conflict(Rejected):
    status = 409
    code = "conflict"


class BodyTooLarge(Rejected):
    status = 413
    code = "request_too_large"


class RateLimited(Rejected):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after_s: float = 1.0
    """Seconds until the same request would be admitted."""


class Unavailable(MantaError):
    status = 503
    type = "service_unavailable_error"
    code = "unavailable"


class EngineFailed(Unavailable):
    status = 502
    code = "engine_failed"
    elsewhere = True


class RegistryUnavailable(Unavailable):
    code = "registry_unavailable"


class SchemaMismatch(RegistryUnavailable):
    """The database belongs to another version of Manta."""

    code = "schema_mismatch"


class ScreenerUnavailable(Unavailable):
    code = "screener_unavailable"


class ClassifierUnavailable(Unavailable):
    code = "classifier_unavailable"


class VaultsUnavailable(Unavailable):
    status = 503
    code = "sessions_unavailable"


class RetrieverUnavailable(Unavailable):
    code = "retriever_unavailable"


class RerankerUnavailable(Unavailable):
    code = "reranker_unavailable"


class DeadlineExceeded(Unavailable):
    status = 504
    code = "deadline_exceeded"

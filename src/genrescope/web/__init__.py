"""The page and its API: classify uploads in bounded time, memory and disk space."""

from genrescope.web.app import create_app, is_local, serve
from genrescope.web.service import Limits

__all__ = ["Limits", "create_app", "is_local", "serve"]

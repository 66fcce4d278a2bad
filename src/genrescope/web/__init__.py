"""The page and its API: classify uploads in bounded time, memory and disk space."""

from genrescope.service.listener import is_local
from genrescope.service.service import Limits
from genrescope.web.app import create_app, serve

__all__ = ["Limits", "create_app", "is_local", "serve"]

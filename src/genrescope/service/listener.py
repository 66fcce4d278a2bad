"""The address that a server listens to."""

from __future__ import annotations

import ipaddress
import socket

from genrescope import system
from genrescope.errors import GenrescopeError


def listen(host: str, port: int) -> socket.socket:
    """Take an address, of IPv4 or IPv6; port 0 takes one that is free.

    Raises
    ------
    GenrescopeError
        If it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        try:
            if not system.IS_WINDOWS:  # there, others could take over the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        text = f"The page cannot listen to {host}:{port} ({error.strerror or error})."
        raise GenrescopeError(f"{text} Choose another with --port, or --port 0.") from error
    return listener


def is_local(host: str) -> bool:
    """Return whether an address is one at which only this machine can be asked."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

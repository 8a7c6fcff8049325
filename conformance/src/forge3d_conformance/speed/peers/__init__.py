"""The peers: the same operations on the raw APIs, by their own means and by hand."""

from forge3d_conformance.speed.peers.peers import find_peers

__all__ = ["find_peers"]

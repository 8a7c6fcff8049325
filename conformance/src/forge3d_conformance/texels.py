"""The texture formats that the suite writes and reads, as numpy sees them."""

from __future__ import annotations

FORMATS = {
    f"{letters}{bits}{kind}": (f"{code}{bits // 8}", channels)
    for channels, letters in ((1, "r"), (2, "rg"), (4, "rgba"))
    for bits, kinds in ((8, "unorm snorm uint sint"), (16, "uint sint float"), (32, "uint sint float"))
    for kind, code in ((k, {"s": "i", "f": "f"}.get(k[0], "u")) for k in kinds.split())
}
"""The plain colour formats of WebGPU: dtype of a channel, and channels."""

MANDATORY = "rgba8unorm"
"""What every device with textures has."""

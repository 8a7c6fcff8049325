"""Decoders for devices: written once, in the part of WGSL that is C but for its declarations."""

from __future__ import annotations

import re
from collections.abc import Sequence

TYPES = {"u32": "unsigned", "i32": "int", "bool": "bool"}

BLOCK_BITS = """
fn word(a: u32, b: u32, c: u32, d: u32, n: u32) -> u32 {
    return select(select(a, b, n == 1u), select(c, d, n == 3u), n >= 2u);
}
fn bits(a: u32, b: u32, c: u32, d: u32, at: u32, n: u32) -> u32 {
    if (n == 0u) { return 0u; }
    let shift = at & 31u;
    var value = word(a, b, c, d, at >> 5u) >> shift;
    if (shift + n > 32u) { value = value | (word(a, b, c, d, (at >> 5u) + 1u) << (32u - shift)); }
    return value & ((1u << n) - 1u);
}
fn blend(low: u32, high: u32, index: u32, n: u32) -> u32 {
    let most = (1u << n) - 1u;
    let weight = (64u * index + most / 2u) / most;
    return (low * (64u - weight) + high * weight + 32u) >> 6u;
}
"""
"""The bits of a block of four words from the lowest on, and what an index of ``n`` bits makes of two ends."""

_CUDA_PRELUDE = """
template <class T> __device__ T select(T no, T yes, bool which) { return which ? yes : no; }
__device__ unsigned countTrailingZeros(unsigned value) { return value ? __ffs(value) - 1 : 32; }
"""


def table(name: str, values: Sequence[int]) -> str:
    """Return a table of numbers in WGSL."""
    # Of the invocation, as some compilers copy a constant whenever it is indexed.
    numbers = ", ".join(f"{value}u" for value in values)
    return f"var<private> {name} = array<u32, {len(values)}>({numbers});\n"


def cuda_of(code: str) -> str:
    """Return functions and tables of WGSL in CUDA's C++."""

    def function(found: re.Match[str]) -> str:
        arguments = ", ".join(
            f"{TYPES[kind]} {name}"
            for name, kind in (part.split(": ") for part in found[2].split(", ") if part)
        )
        return f"__device__ {TYPES[found[3]]} {found[1]}({arguments}) {{"

    def local(found: re.Match[str]) -> str:
        return f"{'const ' if found[1] == 'let' else ''}{TYPES[found[3] or 'u32']} {found[2]} ="

    code = re.sub(
        r"var<private> (\w+) = array<u32, (\d+)>\((.*?)\);", r"__constant__ unsigned \1[\2] = {\3};", code
    )
    code = re.sub(r"fn (\w+)\((.*?)\) -> (\w+) \{", function, code)
    code = re.sub(r"\b(let|var) (\w+)(?:: (\w+))? =", local, code)
    code = re.sub(r"\bu32\(", "unsigned(", code)
    return _CUDA_PRELUDE + re.sub(r"\bi32\(", "int(", code)


def kernel_sources(name: str, code: str, words: int) -> dict[str, str]:
    """Return a kernel that decodes, with a thread for each texel, which is so many words.

    ``code`` has a function of the kernel's name for one of them: it takes the four words of the block, the
    number of the texel in it, the parameter ``format`` and the number of the word.
    """
    return {
        "wgsl": f"""{code.replace(f"fn {name}(", "fn texel_word(")}
struct Params {{ width: u32, height: u32, across: u32, format: u32 }}
@group(0) @binding(0) var<storage, read> blocks: array<u32>;
@group(0) @binding(1) var<storage, read_write> texels: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;
@compute @workgroup_size(8, 8) fn {name}(@builtin(global_invocation_id) id: vec3<u32>) {{
    if (id.x >= p.width || id.y >= p.height) {{ return; }}
    let at = 4u * ((id.y / 4u) * p.across + id.x / 4u);
    let i = 4u * (id.y & 3u) + (id.x & 3u);
    for (var n = 0u; n < {words}u; n = n + 1u) {{
        texels[{words}u * (id.y * p.width + id.x) + n] =
            texel_word(blocks[at], blocks[at + 1u], blocks[at + 2u], blocks[at + 3u], i, p.format, n);
    }}
}}
""",
        "cuda": f"""{cuda_of(code.replace(f"fn {name}(", "fn texel_word("))}
extern "C" __global__ void {name}(const unsigned* blocks, unsigned* texels, unsigned width, unsigned height,
                                  unsigned across, unsigned format) {{
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const unsigned* w = blocks + 4 * ((size_t)(y / 4) * across + x / 4);
    unsigned i = 4 * (y & 3) + (x & 3);
    for (unsigned n = 0; n < {words}; ++n)
        texels[{words} * ((size_t)y * width + x) + n] = texel_word(w[0], w[1], w[2], w[3], i, format, n);
}}
""",
    }

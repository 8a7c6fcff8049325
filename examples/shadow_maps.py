"""A scene with cascaded shadow maps: the preset that fits, the maps, and a picture that has the shadows.

The maps are depths as the light sees the scene, one for each cascade, each three times as wide as the one
before and a third as sharp. numpy then finds for each pixel, without any map, what lies between it and the
light, and the two have to agree but for pixels at the edges of shadows.
"""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core.shadows import (
    PRESETS,
    ShadowConfig,
    get_preset_config,
    validate_shadow_memory_constraint,
)

WIDTH, HEIGHT = 480, 270
LIMIT = "10 MiB"
NEAREST, WIDER = 3.0, 3.0
"""Half the width of the first cascade, in metres, and how much wider each next one is."""
BIAS = 0.03
FAR = 1e30

Floats = NDArray[np.float32]

WGSL = """
struct Params { cascades: u32, resolution: u32, width: u32, height: u32, spheres: u32,
                nearest: f32, wider: f32, bias: f32 }
const FAR = 1e30;
fn vector(at: u32) -> vec3<f32> { return vec3<f32>(scene[at], scene[at + 1u], scene[at + 2u]); }
"""

MAP_WGSL = """
@group(0) @binding(0) var<storage, read> scene: array<f32>;
@group(0) @binding(1) var<storage, read_write> maps: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;
@compute @workgroup_size(8, 8) fn draw_maps(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.resolution || id.y >= p.resolution * p.cascades) { return; }
    let cascade = id.y / p.resolution;
    let extent = p.nearest * pow(p.wider, f32(cascade));
    let place = (vec2<f32>(f32(id.x), f32(id.y % p.resolution)) + 0.5) / f32(p.resolution);
    let at = (2.0 * place - 1.0) * extent;
    let u = vector(0u); let v = vector(3u); let d = vector(6u);
    var depth = -(at.x * u.z + at.y * v.z) / d.z;
    for (var n = 0u; n < p.spheres; n++) {
        let centre = vector(21u + 4u * n); let radius = scene[24u + 4u * n];
        let across = at - vec2<f32>(dot(centre, u), dot(centre, v));
        let rest = radius * radius - dot(across, across);
        if (rest >= 0.0) { depth = min(depth, dot(centre, d) - sqrt(rest)); }
    }
    maps[id.y * p.resolution + id.x] = depth;
}"""

SHADE_WGSL = """
@group(0) @binding(0) var<storage, read> scene: array<f32>;
@group(0) @binding(1) var<storage, read> maps: array<f32>;
@group(0) @binding(2) var<storage, read_write> picture: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;
@compute @workgroup_size(8, 8) fn shade(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.width || id.y >= p.height) { return; }
    let place = (vec2<f32>(f32(id.x), f32(id.y)) + 0.5 - 0.5 * vec2<f32>(f32(p.width), f32(p.height)));
    let across = place.x / f32(p.height); let up = -place.y / f32(p.height);
    let eye = vector(9u);
    let ray = normalize(vector(18u) + across * vector(12u) + up * vector(15u));
    var nearest = FAR; var normal = vec3<f32>(0.0, 0.0, 1.0);
    if (ray.z < 0.0) { nearest = -eye.z / ray.z; }
    for (var n = 0u; n < p.spheres; n++) {
        let centre = vector(21u + 4u * n); let radius = scene[24u + 4u * n];
        let to = centre - eye; let along = dot(to, ray);
        let rest = radius * radius - (dot(to, to) - along * along);
        if (rest >= 0.0 && along - sqrt(rest) > 0.0 && along - sqrt(rest) < nearest) {
            nearest = along - sqrt(rest); normal = (nearest * ray - to) / radius;
        }
    }
    var shade = 235u;
    if (nearest < FAR) {
        let hit = eye + nearest * ray; let d = vector(6u);
        let at = vec2<f32>(dot(hit, vector(0u)), dot(hit, vector(3u)));
        var lit = true; var extent = p.nearest;
        for (var c = 0u; c < p.cascades; c++) {
            if (max(abs(at.x), abs(at.y)) < extent) {
                let texel = vec2<u32>((at / extent + 1.0) * 0.5 * f32(p.resolution));
                let index = (c * p.resolution + min(texel.y, p.resolution - 1u)) * p.resolution;
                lit = dot(hit, d) <= maps[index + min(texel.x, p.resolution - 1u)] + p.bias * (1.0 + f32(c));
                break;
            }
            extent *= p.wider;
        }
        shade = u32(40.0 + select(0.0, 180.0 * max(0.0, -dot(normal, d)), lit));
    }
    picture[id.y * p.width + id.x] = shade;
}"""

CUDA = """
struct V { float x, y, z; };
__device__ V vector(const float* s, int at) { return {s[at], s[at + 1], s[at + 2]}; }
__device__ float dot(V a, V b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
__device__ V add(V a, float t, V b) { return {a.x + t * b.x, a.y + t * b.y, a.z + t * b.z}; }
#define FAR 1e30f
"""
PARAMS = (
    "unsigned cascades, unsigned resolution, unsigned width, unsigned height, unsigned spheres, "
    "float nearest_extent, float wider, float bias"
)
MAP_CUDA = f"""{CUDA}
extern "C" __global__ void draw_maps(const float* scene, float* maps, {PARAMS}) {{
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= resolution || y >= resolution * cascades) return;
    float extent = nearest_extent * powf(wider, (float)(y / resolution));
    float s = (2 * ((x + 0.5f) / resolution) - 1) * extent;
    float t = (2 * ((y % resolution + 0.5f) / resolution) - 1) * extent;
    V u = vector(scene, 0), v = vector(scene, 3), d = vector(scene, 6);
    float depth = -(s * u.z + t * v.z) / d.z;
    for (unsigned n = 0; n < spheres; ++n) {{
        V centre = vector(scene, 21 + 4 * n);
        float radius = scene[24 + 4 * n], a = s - dot(centre, u), b = t - dot(centre, v);
        float rest = radius * radius - a * a - b * b;
        if (rest >= 0) depth = fminf(depth, dot(centre, d) - sqrtf(rest));
    }}
    maps[(size_t)y * resolution + x] = depth;
}}"""
SHADE_CUDA = f"""{CUDA}
extern "C" __global__ void shade(const float* scene, const float* maps, unsigned* picture, {PARAMS}) {{
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    float across = (x + 0.5f - 0.5f * width) / height, up = -(y + 0.5f - 0.5f * height) / height;
    V eye = vector(scene, 9), ray = add(vector(scene, 18), across, vector(scene, 12));
    ray = add(ray, up, vector(scene, 15));
    float length = sqrtf(dot(ray, ray)), nearest = FAR;
    ray = {{ray.x / length, ray.y / length, ray.z / length}};
    V normal = {{0, 0, 1}}, d = vector(scene, 6);
    if (ray.z < 0) nearest = -eye.z / ray.z;
    for (unsigned n = 0; n < spheres; ++n) {{
        V to = add(vector(scene, 21 + 4 * n), -1, eye);
        float radius = scene[24 + 4 * n], along = dot(to, ray);
        float rest = radius * radius - (dot(to, to) - along * along);
        if (rest < 0) continue;
        float distance = along - sqrtf(rest);
        if (distance > 0 && distance < nearest) {{
            nearest = distance;
            normal = {{(distance * ray.x - to.x) / radius, (distance * ray.y - to.y) / radius,
                      (distance * ray.z - to.z) / radius}};
        }}
    }}
    unsigned shade = 235;
    if (nearest < FAR) {{
        V hit = add(eye, nearest, ray);
        float s = dot(hit, vector(scene, 0)), t = dot(hit, vector(scene, 3)), extent = nearest_extent;
        bool lit = true;
        for (unsigned c = 0; c < cascades; ++c, extent *= wider) {{
            if (fmaxf(fabsf(s), fabsf(t)) >= extent) continue;
            unsigned i = (unsigned)((s / extent + 1) * 0.5f * resolution);
            unsigned j = (unsigned)((t / extent + 1) * 0.5f * resolution);
            i = i < resolution ? i : resolution - 1;
            j = j < resolution ? j : resolution - 1;
            lit = dot(hit, d) <= maps[((size_t)c * resolution + j) * resolution + i] + bias * (1 + c);
            break;
        }}
        shade = (unsigned)(40 + (lit ? 180 * fmaxf(0, -dot(normal, d)) : 0));
    }}
    picture[y * width + x] = shade;
}}"""


def map_host(_threads: Any, scene: Floats, maps: Floats, cascades: int, resolution: int, *rest: Any) -> None:
    nearest, wider = rest[3:5]
    u, v, d, spheres = scene[0:3], scene[3:6], scene[6:9], scene[21:].reshape(-1, 4)
    line = (2 * ((np.arange(resolution, dtype=np.float32) + np.float32(0.5)) / resolution) - 1).astype(
        np.float32
    )
    for cascade, depth in enumerate(maps.reshape(cascades, resolution, resolution)):
        s, t = (
            line[None, :] * np.float32(nearest * wider**cascade),
            line[:, None] * np.float32(nearest * wider**cascade),
        )
        depth[:] = -(s * u[2] + t * v[2]) / d[2]
        for *centre, radius in spheres:
            left = radius**2 - (s - centre @ u) ** 2 - (t - centre @ v) ** 2
            inside = left >= 0
            depth[inside] = np.minimum(depth[inside], centre @ d - np.sqrt(left[inside]))


def visible(scene: Floats, width: int, height: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the point and the normal that each pixel shows, and which pixels show any."""
    eye, right, up, ahead, spheres = (
        scene[9:12],
        scene[12:15],
        scene[15:18],
        scene[18:21],
        scene[21:].reshape(-1, 4),
    )
    x = (np.arange(width, dtype=np.float32) + 0.5 - 0.5 * width) / height
    y = -(np.arange(height, dtype=np.float32) + 0.5 - 0.5 * height) / height
    ray = (ahead + x[None, :, None] * right + y[:, None, None] * up).astype(np.float32)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        nearest = np.where(ray[..., 2] < 0, -eye[2] / ray[..., 2], np.float32(FAR)).astype(np.float32)
    normal = np.zeros_like(ray)
    normal[..., 2] = 1
    for sphere in spheres:
        to, radius = sphere[:3] - eye, sphere[3]
        along = ray @ to
        left = radius**2 - (to @ to - along**2)
        distance = along - np.sqrt(np.maximum(left, 0))
        closer = (left >= 0) & (distance > 0) & (distance < nearest)
        nearest[closer] = distance[closer]
        normal[closer] = (distance[closer, None] * ray[closer] - to) / radius
    seen = nearest < FAR
    return eye + np.where(seen, nearest, 0)[..., None] * ray, normal, seen


def shade_host(_threads: Any, scene: Floats, maps: Floats, picture: NDArray[np.uint32], *params: Any) -> None:
    cascades, resolution, width, height, _spheres, nearest, wider, bias = params
    hit, normal, seen = visible(scene, width, height)
    s, t, depth = hit @ scene[0:3], hit @ scene[3:6], hit @ scene[6:9]
    lit, open_ = np.ones(seen.shape, bool), seen.copy()
    for cascade, known in enumerate(maps.reshape(cascades, resolution, resolution)):
        extent = nearest * wider**cascade
        here = open_ & (np.maximum(abs(s), abs(t)) < extent)
        i, j = (
            np.minimum(((at[here] / extent + 1) * 0.5 * resolution).astype(np.int64), resolution - 1)
            for at in (s, t)
        )
        lit[here] = depth[here] <= known[j, i] + bias * (1 + cascade)
        open_ &= ~here
    picture.reshape(height, width)[:] = shaded(scene, normal, seen, lit)


def shaded(
    scene: Floats, normal: Floats, seen: NDArray[np.bool_], lit: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    shade = 40 + np.where(lit, 180 * np.maximum(0, -(normal @ scene[6:9])), 0)
    return np.where(seen, shade, 235).astype(np.uint32)


def reference(scene: Floats) -> NDArray[np.uint32]:
    """Shade without any map: a point is lit where no sphere lies on its way to the light."""
    hit, normal, seen = visible(scene, WIDTH, HEIGHT)
    lit = np.ones(seen.shape, bool)
    to_light = -scene[6:9]
    for sphere in scene[21:].reshape(-1, 4):
        to = sphere[:3] - (hit + BIAS * normal)
        along = to @ to_light
        lit &= (along < 0) | ((to * to).sum(-1) - along**2 > sphere[3] ** 2)
    return shaded(scene, normal, seen, lit)


FIELDS = ("cascades", "resolution", "width", "height", "spheres")
FIGURES = tuple(forge3d.Param(name) for name in FIELDS) + tuple(
    forge3d.Param(name, "f4") for name in ("nearest", "wider", "bias")
)
DRAW_MAPS = forge3d.KernelSource(
    name="draw_maps",
    bindings=(forge3d.Binding("scene", "read", "f4"), forge3d.Binding("maps", "write", "f4")),
    sources={"host": map_host, "wgsl": WGSL + MAP_WGSL, "cuda": MAP_CUDA},
    params=FIGURES,
    workgroup=(8, 8, 1),
)
SHADE = forge3d.KernelSource(
    name="shade",
    bindings=(
        forge3d.Binding("scene", "read", "f4"),
        forge3d.Binding("maps", "read", "f4"),
        forge3d.Binding("picture", "write", "u4"),
    ),
    sources={"host": shade_host, "wgsl": WGSL + SHADE_WGSL, "cuda": SHADE_CUDA},
    params=FIGURES,
    workgroup=(8, 8, 1),
)


def make_scene() -> Floats:
    """Return the light's axes, the camera, and spheres over the ground, as one run of numbers."""

    def unit(*vector: float) -> NDArray[np.float64]:
        return np.array(vector) / np.linalg.norm(vector)

    d = unit(0.75, -0.45, -0.5)  # as the light goes
    u = unit(*np.cross(d, (0, 0, 1)))
    eye, goal = np.array([-3.0, -5.0, 3.5]), np.array([0.3, 0.2, 0.6])
    ahead = unit(*(goal - eye))
    right = unit(*np.cross(ahead, (0, 0, 1)))
    spheres = [
        (0, 0, 1, 1),
        (1.6, -1.2, 0.6, 0.6),
        (-1.8, 0.8, 0.5, 0.5),
        (0.5, 0.4, 2.4, 0.3),
        (4, 3, 1.5, 1.2),
    ]
    parts = (u, np.cross(u, d), d, eye, right, np.cross(right, ahead), ahead, np.array(spheres))
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def choose(limit: str) -> ShadowConfig:
    """Return the best preset whose maps, as numbers that kernels write, take no more than ``limit``."""
    for name in reversed(PRESETS):
        config = attrs.evolve(get_preset_config(name), format="r32float")
        try:
            validate_shadow_memory_constraint(config, limit)
        except ValueError as error:
            print(f"{name}: {error}")
        else:
            print(
                f"{name}: {config.calculate_memory_usage() / 2**20:.0f} MiB of the {limit} that maps may take"
            )
            return config
    raise SystemExit("not even the lowest preset fits")


def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        config, numbers = choose(LIMIT), make_scene()
        with (
            forge3d.global_tracker().scope("shadows") as scope,
            device.create_buffer(numbers.nbytes, label="scene") as scene,
            device.create_buffer(config.calculate_memory_usage(), label="shadow maps") as maps,
            device.create_buffer(4 * WIDTH * HEIGHT, label="picture") as picture,
            device.create_kernel(DRAW_MAPS) as draw_maps,
            device.create_kernel(SHADE) as shade,
            device.staging_ring() as ring,
            device.readback_pool() as pool,
        ):
            ring.upload(numbers, scene)
            spheres = (len(numbers) - 21) // 4
            params = (config.cascades, config.resolution, WIDTH, HEIGHT, spheres, NEAREST, WIDER, BIAS)
            commands = device.command_list(label="shadows")
            side = config.resolution
            commands.dispatch(draw_maps, [scene, maps], params, threads=(side, side * config.cascades))
            commands.dispatch(shade, [scene, maps, picture], params, threads=(WIDTH, HEIGHT))
            device.submit(commands)
            drawn = pool.read(picture, dtype=np.uint32).wait(30).reshape(HEIGHT, WIDTH)
            largest = (
                device.budget.holdings()[0] if isinstance(device.budget, forge3d.DetailedBudget) else None
            )
            print(f"largest: {largest!r}")

        wanted = reference(numbers)
        off = abs(drawn.astype(int) - wanted) > 4
        dark = (drawn == 40).mean()
        print(f"{dark:.1%} of the picture in shadow, {off.mean():.2%} of it other than numpy says")
        print(f"at most {scope.peak_bytes / 2**20:.1f} MiB held, of which {scope.growth} bytes stay")
        # What differs lies at an edge of a shadow: the reference there has both within three pixels.
        near = np.zeros_like(off)
        shadow = wanted == 40
        for y in range(-3, 4):
            for x in range(-3, 4):
                near |= np.roll(shadow, (y, x), (0, 1)) != shadow
        assert 0.02 < dark < 0.5
        assert off.mean() < 0.01
        assert not (off & ~near).any()
        assert scope.growth == 0
    print("ok")


if __name__ == "__main__":
    main()

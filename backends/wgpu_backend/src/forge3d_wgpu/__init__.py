"""The wgpu backend of forge3d: Vulkan, Metal and Direct3D 12 through wgpu-native."""

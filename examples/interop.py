"""forge3d beside what a program already has: native objects in, native objects out.

On ``host`` the native memory is a numpy array, on ``wgpu`` a ``wgpu.GPUBuffer``, on ``cuda`` a CuPy
array. What is done through a native object is outside forge3d's order and budget: wait first.
"""

from typing import Any

import numpy as np

import forge3d_core as forge3d

DATA = np.arange(1024, dtype=np.float32)


def own_memory(device: forge3d.Device) -> Any:
    """Make zeroed memory with the API itself, as the rest of a program might have."""
    if device.info.backend == "wgpu":
        import wgpu

        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        return device.native.create_buffer(size=DATA.nbytes, usage=usage)
    if device.info.backend == "cuda":
        import cupy

        with device.native:
            return cupy.zeros(DATA.size, cupy.float32)
    return np.zeros_like(DATA)


def look_at(device: forge3d.Device, memory: Any) -> np.ndarray:
    """Read native memory with the API itself."""
    if device.info.backend == "wgpu":
        return np.frombuffer(device.native.queue.read_buffer(memory), np.float32)
    if device.info.backend == "cuda":
        return memory.get()
    return memory


def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}; native device {type(device.native).__name__}")
        mine = own_memory(device)
        counted = device.budget.metrics().total_bytes
        buffer = device.adopt(mine, label="mine")
        assert buffer.nbytes == DATA.nbytes
        assert device.budget.metrics().total_bytes == counted  # the memory stays its owner's

        with device.staging_ring() as ring, device.readback_pool() as pool:
            ring.upload(DATA, buffer).wait(timeout=10)
            assert (look_at(device, mine) == DATA).all()
            print(f"uploaded into the program's own {type(mine).__name__}")
            assert (pool.read(buffer, dtype="f4").wait() == DATA).all()

            ours = device.create_buffer(DATA.nbytes)
            ring.upload(DATA, ours).wait(timeout=10)
            print(f"our own buffer is a {type(ours.native).__name__} underneath")
            if device.info.backend == "cuda":
                import cupy

                shared = cupy.asarray(ours).view(cupy.float32)  # no copy: __cuda_array_interface__
                assert float(shared.sum()) == float(DATA.sum())

        buffer.close()
        assert (look_at(device, mine) == DATA).all()  # closing ours left theirs alone
        try:
            device.adopt("something else")
        except forge3d.UsageError as error:
            print(f"not memory of this device: {error}")

        if device.info.backend == "wgpu":  # the program's own device, for instance pygfx's
            with forge3d.adopt_device(device.native, "wgpu") as adopted:
                assert not adopted.create_buffer(16).closed
            assert (look_at(device, mine) == DATA).all()  # it is still open
            print("adopted a wgpu.GPUDevice and left it open")
    print("ok")


if __name__ == "__main__":
    main()

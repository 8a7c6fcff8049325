"""The memory budget: metrics, asking first, watermarks, three kinds of refusal, adaptive quality."""

import forge3d_core as forge3d

MIB = 1024**2


def show(what: str, metrics: forge3d.BudgetMetrics) -> None:
    print(
        f"{what}: {metrics.buffer_count} buffers, {metrics.texture_count} textures, host-visible "
        f"{metrics.host_visible_bytes / MIB:.1f} of {metrics.limit_bytes / MIB:.0f} MiB, device "
        f"{metrics.device_local_bytes / MIB:.1f} MiB"
    )


def quality(device: forge3d.Device) -> tuple[str, int]:
    """Choose what to stage with by what the budget leaves."""
    metrics = device.budget.metrics()
    left = metrics.limit_bytes - metrics.host_visible_bytes
    if left <= 4 * MIB:
        return "low", 256 * 1024
    return ("medium", MIB) if left < 24 * MIB else ("high", 4 * MIB)


def main() -> None:
    with forge3d.open_device(budget="32 MiB") as device:
        print(f"on {device.info.backend}: {device.info.name}")
        budget = device.budget
        marks: list[str] = []
        budget.on_watermark(0.75, lambda metrics: marks.append(f"75 % ({metrics.utilization:.0%})"))
        forget = budget.on_watermark(0.90, lambda metrics: marks.append(f"90 % ({metrics.utilization:.0%})"))

        # Device memory is counted, and does not use up what the host can see.
        with device.create_buffer("40 MiB"), device.create_texture(512, 512, "rgba16float"):
            show("device memory", budget.metrics())
            assert budget.metrics().host_visible_bytes == 0
            assert budget.metrics().texture_bytes >= 512 * 512 * 8

        assert quality(device)[0] == "high"
        with device.staging_ring(ring_count=3, buffer_size="4 MiB"):
            assert quality(device)[0] == "medium"
            with device.readback_pool(max_pending_ops=4, buffer_size="4 MiB"):
                show("ring and pool", budget.metrics())
                assert quality(device)[0] == "low"
                assert len(marks) == 1  # 28 of 32 MiB: past 75 %, short of 90 %

                # Ask before, without taking; and the refusals that differ.
                for size in (MIB, 16 * MIB, 64 * MIB):
                    try:
                        budget.check(size)
                        print(f"  {size // MIB} MiB would fit")
                    except forge3d.BudgetExceeded as error:
                        print(f"  never: {error}")
                    except forge3d.BudgetExhausted as error:
                        print(f"  not now: {error}")
                # Idle blocks of a pool are only kept for later: the budget takes them back first.
                with budget.reserve(16 * MIB):
                    assert budget.metrics().within_budget

        refused = budget.metrics().refusals
        try:
            device.staging_ring(ring_count=8, buffer_size="8 MiB")
        except MemoryError as error:  # every refusal is one
            print(f"refused, nothing held: {error}")
        after = budget.metrics()
        assert after.refusals == refused + 1
        assert after.host_visible_bytes == 0

        budget.set_limit("96 MiB")
        device.staging_ring(ring_count=8, buffer_size="8 MiB").close()
        forget()
        print("watermarks:", ", ".join(marks))
        show("peak was %.0f MiB; now" % (after.peak_host_visible_bytes / MIB), budget.metrics())
    print("ok")


if __name__ == "__main__":
    main()

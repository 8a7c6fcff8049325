"""Budgets that do not know what a format takes."""

from __future__ import annotations

import contextlib
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer

PIXEL = 16


class _Charged(Layer):
    """A base of mutants: what a texture takes is charged as something else, as long as it lives."""

    @staticmethod
    def beyond(texture: Any) -> int:
        raise NotImplementedError

    class Device(Layer.Device):
        def create_texture(self, *args: Any, **kwargs: Any) -> Any:
            layer: Any = self.layer
            texture = self.real.create_texture(*args, **kwargs)
            texture.extra = self.target.budget.reserve(
                layer.beyond(texture), kind="texture", heap="device_local"
            )
            return texture

    class Texture(Layer.Texture):
        def close(self) -> None:
            self.target.close()
            with contextlib.suppress(AttributeError):
                vars(self)["extra"].release()


@mutant("budget.formats-of-one-size", breaks="budget.formats", because="were counted", requires=("textures",))
class FormatsOfOneSize(_Charged):
    """Every texel is charged as the largest there is, whatever its format."""

    @staticmethod
    def beyond(texture: Any) -> int:
        most: int = PIXEL * texture.width * texture.height
        return max(0, most - int(texture.nbytes))


@mutant(
    "budget.texture-charged-twice", breaks="budget.formats", because="were counted", requires=("textures",)
)
class TextureChargedTwice(_Charged):
    """A texture is charged by the budget and once more by the device."""

    @staticmethod
    def beyond(texture: Any) -> int:
        return int(texture.nbytes)

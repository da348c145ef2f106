"""Training and inference: arrays in, arrays out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference import compare_images, load_model_for_infer

__all__ = ["compare_images", "load_model_for_infer"]


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds, and half of `sigctl` never needs it.
    if name in __all__:
        from . import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'model' has no attribute '{name}'")
